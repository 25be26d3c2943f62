# SPDX-License-Identifier: Apache-2.0
"""The stand-in refuses what the SDK refuses. Otherwise code that runs on it would say nothing about an IPU."""

import os

import ipu_stand_in
import numpy as np
import pytest

from ipu_utils.base.keras2 import tf


@pytest.fixture
def ipu():
    """`tensorflow.python.ipu`, configured for one IPU, in a process that has just started."""
    with ipu_stand_in.fresh_process() as ipu:
        configure(ipu)
        yield ipu


def configure(ipu, **attributes):
    config = ipu.config.IPUConfig()
    config.auto_select_ipus = 1
    config.from_dict(attributes)
    config.configure_ipu_system()


def run(ipu, step, element, count=1, strategy=None):
    """One program: an infeed of `element`, `step`, an outfeed."""
    strategy = strategy or ipu.ipu_strategy.IPUStrategy()
    feed = ipu.ipu_infeed_queue.IPUOwnedIterator(dataset=tf.data.Dataset.from_tensors(element).repeat())
    outfeed = ipu.ipu_outfeed_queue.IPUOutfeedQueue()

    @tf.function(jit_compile=True)
    def loop(feed):
        for _ in tf.range(count):
            outfeed.enqueue(step(next(feed)))

    strategy.run(loop, args=(feed,))
    return outfeed


def flags_from(text):
    import sys

    return sys.modules["tensorflow.python.ipu._state"].parse_flags(text)


# Configuration


def test_an_unknown_attribute_is_refused_with_a_suggestion(ipu):
    with pytest.raises(ValueError, match=r"num_io_tile'; did you mean 'num_io_tiles'"):
        ipu.config.IPUConfig().io_tiles.num_io_tile = 32


@pytest.mark.parametrize(
    "attribute, value",
    [
        ("optimizations.prefetch_data_streams", 1),
        ("io_tiles.available_memory_proportion", 1),
        ("io_tiles.num_io_tiles", 32.0),
        ("io_tiles.num_io_tiles", True),
        ("device_connection.version", None),
        ("convolutions.poplar_options", [("partialsType", "half")]),
        ("device_connection.type", "NEVER"),
        ("auto_select_ipus", "1"),
    ],
)
def test_a_wrong_type_is_refused_not_coerced(ipu, attribute, value):
    with pytest.raises(TypeError):
        ipu.config.IPUConfig().from_dict({attribute: value})


@pytest.mark.parametrize(
    "attributes, error, text",
    [
        ({"select_ipus": [0]}, Exception, "cannot both be set"),
        ({"io_tiles.place_ops_on_io_tiles": True}, ValueError, "needs num_io_tiles"),
        ({"convolutions.poplar_options": {"availableMemoryProportion": 0.6}}, TypeError, "must be str"),
    ],
)
def test_a_contradiction_is_refused_when_it_is_configured(ipu, attributes, error, text):
    with pytest.raises(error, match=text):
        configure(ipu, **attributes)


@pytest.mark.parametrize(
    "count, index, fits", [(4, 3, True), (4, 4, False), (1, 5, False), (4, -1, False), (0, 1, True)]
)
def test_the_index_of_a_process_is_below_their_number(ipu, count, index, fits):
    place = "experimental.multi_replica_distribution.process_"
    attributes = {place + "count": count, place + "index": index}
    if fits:
        configure(ipu, **attributes)
        return
    with pytest.raises(ValueError, match="process_index must be in the range"):
        configure(ipu, **attributes)


@pytest.mark.parametrize("kind", ["NEVER", "PRE_COMPILE"])
def test_compiling_without_a_device_needs_a_version(ipu, kind):
    with pytest.raises(ValueError, match="version"):
        configure(ipu, **{"device_connection.type": ipu.config.DeviceConnectionType[kind]})


def test_too_many_io_tiles_are_found_by_the_compiler(ipu):
    configure(ipu, **{"io_tiles.num_io_tiles": 194})
    with pytest.raises(tf.errors.InvalidArgumentError, match="194 I/O tiles"):
        run(ipu, lambda x: x, tf.ones([2]))


def test_nothing_runs_before_the_configuration(ipu):
    ipu_stand_in.reset()
    with pytest.raises(tf.errors.FailedPreconditionError):
        ipu.ipu_strategy.IPUStrategy()


def test_a_device_for_compiling_only_runs_nothing(ipu):
    never = {"device_connection.type": ipu.config.DeviceConnectionType.NEVER, "device_connection.version": "ipu2"}
    configure(ipu, **never)
    with pytest.raises(tf.errors.InvalidArgumentError, match="compilation only"):
        run(ipu, lambda x: x, tf.ones([2]))


# Flags


@pytest.mark.parametrize(
    "text",
    [
        '"--use_synthetic_data"',  # defect 27: a quote in front makes it the name of a file
        "use_synthetic_data",
        "--use_synthetic_dat",
        "--executable_cache_path",
        "--use_synthetic_data --synthetic_data_categories=infeed,images",
        "--synthetic_data_initializer=random",
        "--ipu_model_tiles=4",
    ],
)
def test_flags_that_the_parser_does_not_know_end_the_process(ipu, text):
    with pytest.raises(SystemExit, match="TF_POPLAR_FLAGS"):
        flags_from(text)


def test_flags_are_read_from_a_file_and_only_once(ipu, tmp_path, monkeypatch):
    file = tmp_path / "flags"
    file.write_text("--use_ipu_model\n--ipu_model_tiles=8\n", encoding="utf-8")
    monkeypatch.setenv("TF_POPLAR_FLAGS", str(file))
    ipu_stand_in.reset()
    assert ipu.utils.running_on_ipu_model()
    monkeypatch.setenv("TF_POPLAR_FLAGS", "")
    assert ipu.utils.running_on_ipu_model()


# Programs


def test_a_program_computes_and_its_outfeed_is_read_after_it(ipu):
    outputs = list(run(ipu, lambda x: (x + 1, x * 2), tf.constant([1.0, 2.0]), count=3))
    assert [[tensor.numpy().tolist() for tensor in element] for element in outputs] == [[[2, 3], [2, 4]]] * 3


def test_a_python_function_is_not_a_program(ipu):
    with pytest.raises(ValueError, match=r"tf\.function"):
        ipu.ipu_strategy.IPUStrategy().run(lambda: None)


def test_an_iterator_is_read_inside_a_program_only(ipu):
    with ipu.ipu_strategy.IPUStrategy().scope():
        feed = iter(tf.data.Dataset.range(3))
    with pytest.raises(RuntimeError, match=r"inside a tf\.function"):
        next(feed)


def test_shapes_of_a_feed_must_be_static(ipu):
    with pytest.raises(ValueError, match="drop_remainder"):
        ipu.ipu_infeed_queue.IPUInfeedQueue(tf.data.Dataset.range(5).batch(2))


@pytest.mark.parametrize("depth", [-1, 256])
def test_prefetch_depth_has_a_range(ipu, depth):
    with pytest.raises(ValueError, match="prefetch_depth"):
        ipu.ipu_infeed_queue.IPUInfeedQueue(tf.data.Dataset.range(5), prefetch_depth=depth)


def test_an_infeed_overlooks_keywords_that_it_does_not_know(ipu):
    queue = ipu.ipu_infeed_queue.IPUInfeedQueue(tf.data.Dataset.range(5), prefetch=4)
    assert queue.prefetch_depth == 3
    feed = ipu.ipu_infeed_queue.IPUOwnedIterator(dataset=tf.data.Dataset.range(5), prefetch=4)
    assert feed.infeed_spec.prefetch_depth == 3


def test_an_iterator_gives_no_optional_element(ipu):
    feed = ipu.ipu_infeed_queue.IPUOwnedIterator(dataset=tf.data.Dataset.range(5))
    with pytest.raises(NotImplementedError, match="get_next_as_optional"):
        feed.get_next_as_optional()


def test_an_outfeed_is_enqueued_once_a_graph(ipu):
    strategy, outfeed = ipu.ipu_strategy.IPUStrategy(), ipu.ipu_outfeed_queue.IPUOutfeedQueue()

    @tf.function(jit_compile=True)
    def twice():
        outfeed.enqueue(tf.ones([1]))
        outfeed.enqueue(tf.ones([1]))

    with pytest.raises(ValueError, match="once per graph"):
        strategy.run(twice)


def test_an_outfeed_that_nothing_writes_to_cannot_be_iterated_and_gives_nothing(ipu):
    with pytest.raises(ValueError, match="nothing was enqueued"):
        list(ipu.ipu_outfeed_queue.IPUOutfeedQueue())
    outfeed = ipu.ipu_outfeed_queue.IPUOutfeedQueue()
    assert outfeed.dequeue() == outfeed.dequeue(wait_for_completion=True) == []


def test_dequeue_stacks_what_came_since_the_last_time(ipu):
    outfeed = run(ipu, lambda x: x, tf.constant([5]), count=4)
    assert outfeed.dequeue().shape == (4, 1)
    assert outfeed.dequeue().shape == (0, 1)


def test_popdist_strategy_does_not_wait_for_the_device(ipu):
    from tensorflow.python.ipu.distributed import popdist_strategy

    outfeed = run(ipu, lambda x: x, tf.constant([5]), count=4, strategy=popdist_strategy.PopDistStrategy())
    assert list(outfeed) == []
    assert outfeed.dequeue(wait_for_completion=True).shape == (4, 1)


def on_the_host(x):
    with tf.device("/CPU:0"):
        return x + 1


def strings(x):
    return tf.cast(tf.strings.length(tf.strings.as_string(x)), tf.int32)


@pytest.mark.parametrize(
    "step, element, error",
    [
        (lambda x: tf.cast(x, tf.float64), np.ones(2, np.float32), TypeError),
        (lambda x: x + x, np.ones(2, np.uint8), tf.errors.InvalidArgumentError),
        (lambda x: x[:1], np.ones(2, np.uint8), tf.errors.InvalidArgumentError),
        (lambda x: tf.cast(x > 0, tf.float32), np.ones(2, np.uint8), tf.errors.InvalidArgumentError),
        (lambda x: tf.cast(x, tf.bfloat16), np.ones(2, np.float32), tf.errors.InvalidArgumentError),
        (lambda x: tf.boolean_mask(x, x > 0), np.ones(2, np.float32), tf.errors.InvalidArgumentError),
        (lambda x: tf.unique(x)[0], np.ones(2, np.int32), tf.errors.InvalidArgumentError),
        (strings, np.ones(2, np.int32), tf.errors.InvalidArgumentError),
        (on_the_host, np.ones(2, np.int32), tf.errors.InvalidArgumentError),
        (
            lambda x: tf.image.non_max_suppression_padded(x, x[:, 0], 2, pad_to_max_output_size=True)[0],
            np.ones([3, 4], np.float32),
            tf.errors.InvalidArgumentError,
        ),
        (lambda x: tf.numpy_function(np.sin, [x], tf.float32), np.ones(2, np.float32), tf.errors.InvalidArgumentError),
    ],
)
def test_what_an_ipu_cannot_hold_or_compute_is_refused(ipu, step, element, error):
    with pytest.raises(error):
        run(ipu, step, element)


@pytest.mark.parametrize("dtype", [tf.float16, tf.float32, tf.int32])
def test_uint8_may_travel_and_be_cast(ipu, dtype):
    (output,) = run(ipu, lambda x: tf.cast(tf.reshape(x, [4]), dtype), np.full([2, 2], 200, np.uint8))
    assert output.numpy().tolist() == [200] * 4


def test_variables_must_be_made_in_the_scope(ipu):
    elsewhere = tf.Variable(2.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="from device IPU"):
        run(ipu, lambda x: x * elsewhere, tf.ones([2]))


def test_synthetic_data_leaves_the_outfeed_empty(ipu, monkeypatch):
    monkeypatch.setenv("TF_POPLAR_FLAGS", "--use_synthetic_data --synthetic_data_initializer=random")
    ipu_stand_in.reset()
    configure(ipu)
    assert list(run(ipu, lambda x: tf.cast(x, tf.float32), np.ones(2, np.uint8))) == []


# Custom operations


def test_attributes_of_a_custom_operation_are_text(ipu):
    with pytest.raises(ValueError, match="attributes must be a str"):
        ipu.custom_ops.precompiled_user_op([tf.ones([1])], "lib.so", attributes={"threshold": 0.5})


def test_a_library_that_is_not_there_or_of_another_api_level_is_refused(ipu, tmp_path):
    import subprocess

    @tf.function
    def traced(path):
        return ipu.custom_ops.precompiled_user_op([tf.ones([1])], path, outs={"output_types": [], "output_shapes": []})

    with pytest.raises(tf.errors.NotFoundError):
        traced(str(tmp_path / "missing.so"))
    source, library = tmp_path / "op.c", tmp_path / "op.so"
    source.write_text("int custom_op_api_level = 4; void Build(void) {}", encoding="utf-8")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    with pytest.raises(tf.errors.InternalError, match="API level 4"):
        traced(str(library))


# Embedded runtime


@pytest.fixture
def executable(ipu, tmp_path):
    """A program that doubles [2] float32 values, compiled for `iterations` calls."""

    def build(iterations=100, name="application.poplar_exec", body=None, dtype=tf.float32):
        spec = tf.TensorSpec([2], dtype)
        file = str(tmp_path / name)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            infeed = ipu.ipu_infeed_queue.IPUInfeedQueue(
                tf.data.Dataset.from_tensors((tf.zeros(spec.shape, spec.dtype),)).repeat()
            )
            outfeed = ipu.ipu_outfeed_queue.IPUOutfeedQueue()
            compiled = ipu.application_compile_op.experimental_application_compile_op(
                lambda: ipu.loops.repeat(
                    iterations, lambda x: outfeed.enqueue((body or (lambda v: v * 2))(x)), infeed_queue=infeed
                ),
                output_path=file,
                freeze_variables=True,
            )
            assert not os.path.exists(file), "compiling happens when the operation runs"
            session.run(compiled)
        return file

    return build


def start(ipu, file, name, **kwargs):
    with tf.init_scope():
        return ipu.embedded_runtime.embedded_runtime_start(file, [], name, **kwargs)


def call(ipu, context, value):
    return ipu.embedded_runtime.embedded_runtime_call([tf.constant(value)], context)[0].numpy().tolist()


def test_an_executable_answers_calls(ipu, executable):
    assert call(ipu, start(ipu, executable(), "a"), [1.0, 2.0]) == [2, 4]


def test_engines_are_found_by_name_even_for_another_file(ipu, executable):
    start(ipu, executable(), "same")
    other = executable(name="other", body=lambda x: x * 3)
    assert call(ipu, start(ipu, other, "same"), [1.0, 2.0]) == [2, 4]  # defect 43
    assert call(ipu, start(ipu, other, "new"), [1.0, 2.0]) == [3, 6]


def test_calls_are_checked_against_the_executable(ipu, executable):
    context = start(ipu, executable(), "b")
    with pytest.raises(TypeError, match="dtype"):
        call(ipu, context, np.ones(2, np.uint8))  # defect 40
    with pytest.raises(Exception, match="shape"):
        call(ipu, context, [1.0])
    with pytest.raises(Exception, match="expects 1 inputs"):
        ipu.embedded_runtime.embedded_runtime_call([], context)


def test_an_engine_cannot_be_stopped(ipu, executable):
    with pytest.raises(NotImplementedError, match="stop"):
        ipu.embedded_runtime.embedded_runtime_stop(start(ipu, executable(), "running"))


def test_a_short_loop_makes_the_engine_start_again(ipu, executable):
    context = start(ipu, executable(iterations=1), "short")
    for _ in range(3):
        call(ipu, context, [1.0, 2.0])
    assert context._engine.restarts == 2


def test_io_tiles_let_a_lone_request_wait_for_the_time_out(ipu, executable):
    configure(ipu, **{"io_tiles.num_io_tiles": 32, "io_tiles.place_ops_on_io_tiles": True})
    context = start(ipu, executable(), "tiles", timeout=1)
    call(ipu, context, [1.0, 2.0])
    assert context._engine.stalls == 1
    assert context._engine.timeout_us == 1


def test_feeds_of_an_executable_have_five_types(ipu, executable):
    with pytest.raises(TypeError, match="int64"):
        executable(dtype=tf.int64)


def test_only_an_executable_can_be_started(ipu, tmp_path):
    (tmp_path / "text").write_text("hello\n", encoding="utf-8")
    with pytest.raises(Exception, match="not an executable"):
        start(ipu, str(tmp_path / "text"), "c")


# PopDist


def test_popdist_tells_what_poprun_said(ipu, monkeypatch):
    import popdist

    assert (popdist.isPopdistEnvSet(), popdist.getNumInstances(), popdist.getInstanceIndex()) == (False, 1, 0)
    for name, value in {"NUM_TOTAL_REPLICAS": 6, "NUM_LOCAL_REPLICAS": 2, "REPLICA_INDEX_OFFSET": 4}.items():
        monkeypatch.setenv("POPDIST_" + name, str(value))
    assert (popdist.isPopdistEnvSet(), popdist.getNumInstances(), popdist.getInstanceIndex()) == (True, 3, 2)


def test_collectives_need_init(ipu):
    import popdist
    from tensorflow.python.ipu import distributed

    popdist.finalizeBackend()
    with pytest.raises(tf.errors.FailedPreconditionError):
        distributed.allgather(tf.ones([1]))
    popdist.init()
    assert distributed.allgather(tf.ones([3])).shape == (1, 3)
