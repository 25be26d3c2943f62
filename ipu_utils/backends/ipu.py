# SPDX-License-Identifier: Apache-2.0
"""The IPU, through Graphcore's TensorFlow: the only module that imports `tensorflow.python.ipu`, PopDist or libpvti.

The network reaches the device as the host device's does: a frozen graph with batch norm folded in. Its weights are
constants of the program, so building and loading it needs nothing of the IPU, and no variable has to be moved there.
"""

import contextlib
import itertools
import logging
import os
import tempfile
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, List, Optional, Sequence, Tuple

import libpvti
import numpy as np
import popdist
import popdist.tensorflow
from tensorflow.python import ipu

from ipu_utils.backends import ipu_options
from ipu_utils.base.errors import CompiledOnly, ConfigError, UserError
from ipu_utils.base.keras2 import tf
from ipu_utils.config.device_options import IpuConfig
from ipu_utils.config.model_options import ModelConfig
from ipu_utils.config.run_options import EmbeddedConfig
from ipu_utils.graph.fold_batch_norm import fold_batch_norm
from ipu_utils.graph.fold_constants import fold_constants
from ipu_utils.graph.freeze import FrozenStep, freeze, producer
from ipu_utils.graph.repeat_nearest import repeat_nearest

TRACE_CHANNEL = "EfficientDet"
IPUS_PER_REPLICA = 1
Signature = Sequence[tf.TensorSpec]

log = logging.getLogger(__name__)
_engine_numbers = itertools.count()


def create(config: Optional[Any] = None) -> "IpuDevice":
    """Open the IPU for a run: environment first, then the device's configuration, then the strategy.

    Args:
      config: a `RunConfig`; None takes every default.

    Raises:
      UserError: the environment contradicts the configuration, or the IPU cannot do what it asks for.
    """
    ipu_config = IpuConfig() if config is None else config.ipu
    model = ModelConfig() if config is None else config.model
    embedded = None if config is None else config.embedded
    profile_dir = None if config is None else config.output.profile_dir
    cache_dir = None if config is None else config.device.executable_cache_dir
    ipu_options.check_purpose(ipu_config, embedded is not None, cache_dir is not None)
    variables, warnings = ipu_options.environment(ipu_config, profile_dir, cache_dir, os.environ)
    for warning in warnings:
        log.warning(warning)
    os.environ.update(variables)  # The SDK reads them once, when it is first used.
    for folder in filter(None, (profile_dir, cache_dir)):
        Path(folder).mkdir(parents=True, exist_ok=True)
    configure(ipu_config, model, trap_exceptions=config is not None and config.output.debug)
    return IpuDevice(ipu_config, embedded, cache_dir)


def instance() -> Tuple[int, int]:
    """Index of this process among those that poprun started, and their number; (0, 1) without poprun."""
    return (popdist.getInstanceIndex(), popdist.getNumInstances()) if popdist.isPopdistEnvSet() else (0, 1)


def gather(values: Sequence[float]) -> List[List[float]]:
    """The values of every instance of poprun, one list each; all must have the same number of them.

    Only after `configure`. The values travel as float32.
    """
    if instance()[1] == 1:
        return [list(values)]
    from tensorflow.python.ipu import distributed

    return distributed.allgather(tf.constant(values, tf.float32)).numpy().tolist()


def configure(options: IpuConfig, model: ModelConfig, trap_exceptions: bool = False) -> ipu.config.IPUConfig:
    """Configure the IPU system; must come before anything is compiled.

    Args:
      options: the IPU's part of the configuration.
      model: for the types that the network computes with.
      trap_exceptions: stop the program at an invalid operation, a division by zero or an overflow.
    """
    config = ipu.config.IPUConfig()
    config.convolutions.poplar_options = ipu_options.convolution_options(options, model)
    config.matmuls.poplar_options = ipu_options.matmul_options(options, model)
    config.optimizations.prefetch_data_streams = options.opt_prefetch_data_streams
    config.experimental.always_rearrange_copies_on_the_host = not options.opt_device_rearrange

    config.floating_point_behaviour.inv = trap_exceptions
    config.floating_point_behaviour.div0 = trap_exceptions
    config.floating_point_behaviour.oflo = trap_exceptions
    # A half that overflows becomes the largest half, not NaN: a huge score still wins, a NaN is never selected.
    config.floating_point_behaviour.nanoo = False
    # Rounding to nearest, so that a run can be repeated; stochastic rounding is for training.
    config.floating_point_behaviour.esr = ipu.config.StochasticRoundingBehaviour.OFF

    tiles = ipu_options.io_tiles(options)
    if tiles:
        config.io_tiles.num_io_tiles = tiles
        config.io_tiles.place_ops_on_io_tiles = True

    algorithm = ipu_options.SCHEDULERS[options.opt_liveness_scheduler]
    config.scheduling.algorithm = ipu.config.SchedulingAlgorithm[algorithm]
    if algorithm == "LOOK_AHEAD":
        config.scheduling.maximum_scheduler_lookahead_depth = options.opt_scheduler_lookahead_depth
        config.scheduling.maximum_scheduler_search_space_size = options.opt_scheduler_lookahead_search_space

    connection = ipu_options.CONNECTION_TYPES[options.ipu_connection_type]
    config.device_connection.type = ipu.config.DeviceConnectionType[connection]
    if connection == "NEVER":
        config.device_connection.version = ipu_options.COMPILE_TARGET

    if popdist.isPopdistEnvSet():
        popdist.init()
        if popdist.getNumLocalReplicas() != 1:
            raise ConfigError(
                f"poprun gave this instance {popdist.getNumLocalReplicas()} replicas, and each replica needs an "
                "instance of its own: make --num-instances equal to --num-replicas."
            )
        popdist.tensorflow.set_ipu_config(config, ipus_per_replica=IPUS_PER_REPLICA, configure_device=True)
    else:
        config.auto_select_ipus = IPUS_PER_REPLICA
    config.configure_ipu_system()
    return config


class IpuDevice:
    """One IPU, configured. Networks are built for it: see `ipu_utils.model.network.Placement`."""

    kind = "ipu"

    def __init__(self, options: IpuConfig, embedded: Optional[EmbeddedConfig] = None, cache_dir: Optional[Path] = None):
        self._options, self._embedded, self._cache_dir = options, embedded, cache_dir
        self._channel = libpvti.createTraceChannel(TRACE_CHANNEL)
        self._instances, self._index, self._compiling = 1, 0, False
        if popdist.isPopdistEnvSet():
            # Imported only here: it loads the message-passing library that poprun provides.
            from tensorflow.python.ipu.distributed import popdist_strategy

            self._index, self._instances = instance()
            self._strategy = popdist_strategy.PopDistStrategy()
        else:
            self._strategy = ipu.ipu_strategy.IPUStrategy()
        model = "IPU model" if ipu.utils.running_on_ipu_model() else "ipu"
        self.name = model if self._instances == 1 else f"{model} ({self._instances} instances)"
        self.description = f"TensorFlow {tf.__version__} for IPU"

    def versions(self) -> Dict[str, str]:
        """Version of what compiles for the IPU beside TensorFlow; empty where nobody tells."""
        version = ipu_options.poplar_version(os.environ)
        return {} if version is None else {"poplar": version}

    def default_precision(self) -> str:
        """Type name of the precision that suits the device: the IPU computes half at four times the rate of float."""
        return ipu_options.OWN_PRECISION

    def check_precision(self, precision: str) -> None:
        """Raise UserError when the IPU cannot compute in `precision`."""
        ipu_options.check_precision(precision)

    def dtype_policy(self, precision: str) -> str:
        """Keras policy for `precision`: weights stay float32 until they are frozen, so that folding rounds once."""
        return precision if precision == "float32" else f"mixed_{precision}"

    def swish(self, features: tf.Tensor) -> tf.Tensor:
        """x * sigmoid(x): one PopLibs operation in a program for the IPU, TensorFlow's own outside of one."""
        return ipu.nn_ops.swish(features) if self._compiling else features * tf.sigmoid(features)

    def scope(self) -> ContextManager:
        """Variables live on the CPU until they are frozen into the program."""
        return tf.device("/CPU:0")

    def span(self, label: str) -> ContextManager:
        """A mark for PopVision; costs next to nothing unless PVTI_OPTIONS switches tracing on."""
        return libpvti.Tracepoint(self._channel, label)

    def compile(self, step: Callable, dataset: tf.data.Dataset, batches: int) -> Callable[[], List]:
        """Return a call that runs `step` on `batches` batches in one program and drains its outfeed.

        The outputs of a batch are a tuple of NumPy arrays in the order in which `step` returns them. With synthetic
        data nothing comes back and the list is empty.

        Raises:
          CompiledOnly: from the call, when the connection type is `never`.
        """
        frozen = self._freeze(step, dataset.element_spec)
        # Repeated, because the device fetches ahead of its need; each instance of poprun takes its share.
        dataset = dataset.repeat().shard(self._instances, self._index) if self._instances > 1 else dataset.repeat()
        # What iter(dataset) makes in the strategy's scope, which has no argument for the depth.
        feed = ipu.ipu_infeed_queue.IPUOwnedIterator(dataset=dataset, prefetch_depth=self._options.opt_prefetch_depth)
        outfeed = ipu.ipu_outfeed_queue.IPUOutfeedQueue()

        @tf.function(jit_compile=True)
        def loop(feed):
            for _ in tf.range(batches):
                outfeed.enqueue(_inline(frozen, next(feed)))

        def call() -> List:
            try:
                self._strategy.run(loop, args=(feed,))
            except tf.errors.InvalidArgumentError as error:
                if self._options.ipu_connection_type != "never":
                    raise
                raise CompiledOnly(
                    f"the program is compiled and kept in {self._cache_dir}. It was not run: "
                    "--ipu-connection-type never attaches no IPU."
                ) from error
            # Waits for the device, which PopDist's strategy does not do by itself, and fetches all batches at once.
            stacked = [output.numpy() for output in outfeed.dequeue(wait_for_completion=True)]
            return list(zip(*stacked))

        return call

    def compile_executable(self, step: Callable, signature: Signature, path: Path, iterations: int) -> None:
        """Compile `step` into a file for the embedded application runtime; it appears complete or not at all.

        Args:
          step: as for `compile`.
          signature: one spec an argument, static shapes, in the types in which the arguments will travel.
          path: the file, by custom with the suffix .poplar_exec.
          iterations: requests until the engine has to start again.
        """
        frozen = self._freeze(step, signature)
        path = Path(os.path.realpath(str(path)))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=str(path.parent)) as folder:
            file = os.path.join(folder, path.name)
            # The documented way is TensorFlow 1's; graph and session stay in here.
            with tf.Graph().as_default(), tf.compat.v1.Session() as session:
                element = tuple(tf.zeros(spec.shape, spec.dtype) for spec in signature)
                infeed = ipu.ipu_infeed_queue.IPUInfeedQueue(
                    tf.data.Dataset.from_tensors(element).repeat(), prefetch_depth=self._options.opt_prefetch_depth
                )
                outfeed = ipu.ipu_outfeed_queue.IPUOutfeedQueue()

                def body(*elements):
                    return outfeed.enqueue(_inline(frozen, elements))

                def loop():
                    return ipu.loops.repeat(iterations, body, infeed_queue=infeed)

                compiled = ipu.application_compile_op.experimental_application_compile_op(
                    loop, output_path=file, freeze_variables=True
                )
                session.run(infeed.initializer)
                session.run(compiled)
            os.replace(file, path)

    def start(self, path: Path, signature: Signature) -> "Executable":
        """Start the executable in `path`, which was compiled for `signature`, on an IPU. Compile before, not after.

        Raises:
          UserError: the connection type is `never`.
        """
        if self._options.ipu_connection_type == "never":
            raise UserError(
                f"{path} is compiled, and --ipu-connection-type never attaches no IPU to run it: use on_demand, or add "
                "--compile-only."
            )
        if self._options.ipu_connection_type == "always":
            # The engine attaches by itself; it would wait for the IPU that the configuration holds.
            ipu.config.reset_ipu_configuration()
        embedded = self._embedded or EmbeddedConfig()
        timeout = ipu_options.embedded_timeout_us(embedded.requests_in_flight, embedded.arrival_rate)
        return Executable(path, signature, timeout)

    def _freeze(self, step: Callable, signature: Signature) -> FrozenStep:
        self._compiling = True
        try:
            with self._strategy.scope():  # Tells operations of several implementations that the IPU's is wanted.
                frozen = freeze(step, signature)
        finally:
            self._compiling = False
        return repeat_nearest(fold_constants(fold_batch_norm(frozen)))


class Executable(contextlib.AbstractContextManager):
    """A compiled program on an IPU, called one batch at a time, from any number of threads.

    The runtime offers no way to stop an engine: closing this frees the session, the IPU is released with the process.
    """

    def __init__(self, path: Path, signature: Signature, timeout_us: int):
        # Engines belong to the process and are found by name: one of a name already used would be an older program.
        name = f"efficientdet-{os.getpid()}-{next(_engine_numbers)}"
        with tf.Graph().as_default() as graph:
            context = ipu.embedded_runtime.embedded_runtime_start(str(path), [], name, timeout=timeout_us)
            inputs = [tf.compat.v1.placeholder(spec.dtype, spec.shape) for spec in signature]
            outputs = ipu.embedded_runtime.embedded_runtime_call(inputs, context)
        self._session = tf.compat.v1.Session(graph=graph)
        self._call = self._session.make_callable(list(outputs), inputs)

    def call(self, *arguments: np.ndarray) -> Tuple[np.ndarray, ...]:
        """Outputs of the step for one batch, in the step's own types; returns when they are in host memory."""
        return tuple(self._call(*arguments))

    def close(self) -> None:
        """Free what can be freed."""
        self._session.close()

    def __exit__(self, *error: Any) -> None:
        self.close()


def _inline(frozen: FrozenStep, arguments: Sequence[tf.Tensor]) -> Tuple[tf.Tensor, ...]:
    """Put the frozen graph into the graph that is being built."""
    # The arguments take the place of its placeholders, which must not come along: XLA compiles unused nodes, too.
    ends = {producer(name) for name in frozen.inputs}
    graph_def = tf.compat.v1.GraphDef(versions=frozen.graph_def.versions, library=frozen.graph_def.library)
    graph_def.node.extend(node for node in frozen.graph_def.node if node.name not in ends)
    for node in graph_def.node:
        node.device = ""  # It was traced on the host, and goes where the program goes.
    return tuple(
        tf.graph_util.import_graph_def(
            graph_def,
            input_map=dict(zip(frozen.inputs, arguments)),
            return_elements=list(frozen.outputs),
            name="step",
        )
    )


def custom_op(
    inputs: Sequence[tf.Tensor],
    library: Path,
    attributes: str,
    outputs: Sequence[Tuple[tf.DType, Sequence[int]]],
    codelets: Optional[Path] = None,
    name: str = "CustomOp",
) -> List[tf.Tensor]:
    """Add an operation from a library built against Poplar to the program that is being traced.

    Args:
      inputs: tensors of the program.
      library: shared library that exports `Build`.
      attributes: text that `Build` receives, by custom JSON.
      outputs: (type, shape) of each output; the SDK does not compare them with what `Build` returns.
      codelets: compiled or source codelets to add to the graph, where the library does not do so itself.
      name: of the operation.

    Returns:
      One tensor an output.
    """
    outs: Dict[str, List] = {
        "output_types": [dtype for dtype, _ in outputs],
        "output_shapes": [list(shape) for _, shape in outputs],
    }
    return ipu.custom_ops.precompiled_user_op(
        list(inputs),
        os.path.abspath(str(library)),
        gp_path="" if codelets is None else os.path.abspath(str(codelets)),
        outs=outs,
        name=name,
        attributes=attributes,
    )
