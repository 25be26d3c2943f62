# SPDX-License-Identifier: Apache-2.0
"""What each option declares about itself, beside its value: who reads it, and what it takes part in.

Nothing here has a default, so an option that leaves something out cannot be declared. Code that needs to know which
options do something asks `ipu_utils.config.sections.names_where`.
"""

import enum
from typing import FrozenSet, NamedTuple, Optional

Devices = FrozenSet[str]  # of "ipu", "cpu" and "gpu", as `DeviceConfig.device` is when it is resolved
NOWHERE: Devices = frozenset()
ON_IPU: Devices = frozenset({"ipu"})
ON_CPU: Devices = frozenset({"cpu"})
ON_HOST: Devices = frozenset({"cpu", "gpu"})
EVERYWHERE: Devices = ON_IPU | ON_HOST


class Role(enum.Enum):
    """What an option decides. Runs that differ in options of another role than WORK do the same work."""

    WORK = "what is computed and measured, on the devices that read it"
    WORK_ON_IPU = "what is computed and measured, on an IPU alone"
    CONTENT = "something that a record tells by itself: weights, images, hyper-parameters, types, thresholds"
    LENGTH = "how long to measure, and which statistics to report"
    RECORD = "a file about the measurement"
    IMAGES = "something to write about images, or to compare them with"
    FOLDER = "a folder to write to or to keep things in"
    TALK = "what is checked, said or shown"


class Compiled(NamedTuple):
    """How an option takes part in compiling."""

    devices: Devices  # whose compiled programs depend on it
    by_value: bool  # they are known by the value itself; else by what follows from it, such as the weights it names
    header: Optional[str] = None  # attribute of an executable's header that says what it was compiled for
    fixed: bool = False  # an executable that is given cannot follow it any more


NOT_COMPILED = Compiled(NOWHERE, by_value=False)
COMPILED_BY_VALUE_ON_IPU = Compiled(ON_IPU, by_value=True)
COMPILED = Compiled(EVERYWHERE, by_value=False, fixed=True)


def compiled_as(header: str) -> Compiled:
    """Compiled everywhere; the attribute `header` of an executable's header says what it was compiled for."""
    return Compiled(EVERYWHERE, by_value=False, header=header)


class Sweep(NamedTuple):
    """What becomes of an option where comma lists ask for several runs."""

    kind: str  # "axis", "each run", "once", "appended" or "refused"
    order: int = 0  # of an axis: the first varies slowest


EACH_RUN = Sweep("each run")  # every run has it
ONCE = Sweep("once")  # the sweep writes one file for all runs
APPENDED = Sweep("appended")  # every run's row comes into one table
REFUSED = Sweep("refused")  # every run would overwrite what the one before has written


def axis(order: int) -> Sweep:
    """Takes a comma list."""
    return Sweep("axis", order)


class Facets(NamedTuple):
    """Everything that an option declares about itself."""

    read_by: Devices  # on another device it has no effect, and a note says so
    role: Role
    compiled: Compiled
    in_presets: bool  # may a preset hold it?
    sweep: Sweep
    printed: bool  # does --print-config show it?
    repeats: bool  # does who gives it say how often to run? Photographs are run once where nobody does

    def counts(self, *kinds: Optional[str]) -> bool:
        """Does it decide about the work of runs on devices of these kinds?"""
        if self.role is Role.WORK:
            return any(kind in self.read_by for kind in kinds)
        return self.role is Role.WORK_ON_IPU and "ipu" in kinds


# What most options of a role have in common; a declaration names what is otherwise with `_replace`.
WORK = Facets(EVERYWHERE, Role.WORK, NOT_COMPILED, in_presets=True, sweep=EACH_RUN, printed=True, repeats=False)
CONTENT = WORK._replace(role=Role.CONTENT)
LENGTH = WORK._replace(role=Role.LENGTH)
RECORD = WORK._replace(role=Role.RECORD, sweep=ONCE)
IMAGES = WORK._replace(role=Role.IMAGES)
FOLDER = WORK._replace(role=Role.FOLDER)
TALK = WORK._replace(role=Role.TALK)
IPU_PROGRAM = WORK._replace(read_by=ON_IPU, compiled=COMPILED_BY_VALUE_ON_IPU)
