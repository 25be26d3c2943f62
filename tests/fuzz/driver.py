# SPDX-License-Identifier: Apache-2.0
"""Deterministic fuzzing: input i of seed s is the same on every machine, so a finding is two numbers.

A surface makes an input from a `random.Random` and tries it. Trying returns a word, "accepted" or "refused"; anything
that is raised, takes longer than SLOW_SECONDS or makes the process grow by LARGE_MIB, is a finding. So is a leak, which
takes many inputs for that: the finding is the input at which it was seen.
"""

import collections
import contextlib
import faulthandler
import random
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from typing import Any, Callable, Counter, Iterator, List, Protocol

from ipu_utils.base.process import peak_memory_mib

NATIVE_SECONDS = 600  # of time, after which native code that cannot be given up ends the process, and says where
SLOW_SECONDS = 5.0  # of processor time: a hundred times what the slowest harmless input takes on a small machine
HANG_SECONDS = 60  # of processor time, after which an input is given up: a loop that never ends is a finding, too
LARGE_MIB = 256  # by which the peak may be above that at the beginning, or at the last finding of this kind
LOOK_INPUTS = 20  # between two looks at the peak, which take longer than many an input
MOST_FINDINGS = 20


class Surface(Protocol):
    """One kind of input."""

    name: str

    def make(self, rng: random.Random) -> Any:
        """Make an input."""

    def try_out(self, given: Any) -> str:
        """Feed it in; return what became of it."""

    def close(self) -> None:
        """Remove what was made on the way."""


@dataclass
class Finding:
    """An input that did harm."""

    number: int
    given: Any
    what: str  # last line of the traceback, or how long it took


@dataclass
class Outcome:
    """What a run over many inputs saw."""

    surface: str
    seed: int
    words: Counter[str] = field(default_factory=collections.Counter)
    findings: List[Finding] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        return sum(self.words.values()) + len(self.findings)


class Hang(BaseException):
    """An input took HANG_SECONDS. No `Exception`, so that nothing on the way takes it for an error of its own."""


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Raise Hang in what takes too long; in the main thread alone, the only one that gets signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_up(number: int, frame: Any) -> None:
        raise Hang(f"no end after {HANG_SECONDS} s")

    before = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, HANG_SECONDS)
    faulthandler.dump_traceback_later(NATIVE_SECONDS, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _named(name: str, function: Callable[[Any], str]) -> Callable[[Any], str]:
    """The function in a frame of that name, which is all that `faulthandler` tells of a process that it ends."""

    def call(given: Any) -> str:
        return function(given)

    call.__code__ = call.__code__.replace(co_name=name)
    return call


def random_of(surface: str, seed: int, number: int) -> random.Random:
    """The generator that makes one input."""
    return random.Random(f"{surface}/{seed}/{number}")


def fuzz(
    surface: Surface, count: int, seed: int, first: int = 0, on_input: Callable[[int], Any] = lambda number: None
) -> Outcome:
    """Try inputs `first` to `first + count - 1`; stops after MOST_FINDINGS different findings."""
    outcome, seen = Outcome(surface.name, seed), set()
    memory = peak_memory_mib() or 0.0
    for number in range(first, first + count):
        given = surface.make(random_of(surface.name, seed, number))
        start = time.process_time()
        try:
            with _limited():
                word = _named(f"input_{number}", surface.try_out)(given)
        except (Exception, Hang) as error:  # whatever it is, it is what is looked for
            place = traceback.extract_tb(error.__traceback__)[-1]
            problem = f"{type(error).__name__}: {str(error)[:200]} ({place.filename}:{place.lineno})"
            key = (type(error).__name__, place.filename, place.lineno)
        else:
            seconds = time.process_time() - start
            problem, key = (f"{seconds:.1f} s", "slow") if seconds > SLOW_SECONDS else (None, None)
            look = not (number - first) % LOOK_INPUTS or number == first + count - 1
            grown = (peak_memory_mib() or 0.0) - memory if look else 0.0
            if grown > LARGE_MIB:
                key = f"memory {memory:.0f}"
                problem = f"{grown:.0f} MiB more than before, of this input or of the last {LOOK_INPUTS}"
                memory += grown
            if problem is None:
                outcome.words[word] += 1
        if problem is not None and key not in seen:
            seen.add(key)
            outcome.findings.append(Finding(number, given, problem))
            if len(outcome.findings) >= MOST_FINDINGS:
                break
        elif problem is not None:
            outcome.words["found before"] += 1
        on_input(number)
    return outcome


def mutated(rng: random.Random, content: bytes, most: int = 8) -> bytes:
    """Change, insert, remove, repeat or exchange a few stretches of bytes."""
    content = bytearray(content)
    for _ in range(rng.randint(1, most)):
        start = rng.randrange(len(content) + 1)
        end = min(len(content), start + rng.choice((1, 1, 1, 2, 4, 16, 200)))
        kind = rng.randrange(6)
        if kind == 0 and start < len(content):
            content[start] = rng.choice(
                (0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256), content[start] ^ 1 << rng.randrange(8))
            )
        elif kind == 1:
            content[start:start] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 2, 4, 30))))
        elif kind == 2:
            del content[start:end]
        elif kind == 3:
            content[start:start] = content[start:end] * rng.choice((1, 2, 50))
        elif kind == 4:
            content[start:end] = bytes(rng.choice((0, 0xFF)) for _ in range(1)) * (end - start)
        elif rng.random() < 0.3:
            del content[start:]
    return bytes(content)
