# SPDX-License-Identifier: Apache-2.0
"""What a benchmarks.yml says, as Graphcore's examples-utils reads it: variants, commands, numbers in their output."""

import contextlib
import itertools
import math
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ipu_utils.base.bounded_search import find_all
from ipu_utils.base.errors import UserError
from ipu_utils.base.safe_yaml import load_yaml
from ipu_utils.config.sections import all_rules
from ipu_utils.launch.arithmetic import evaluate, fill, parse
from ipu_utils.launch.benchmark_checks import (
    INTERPRETERS,
    NEEDS_NO_DATA_SET,
    REDUCTIONS,
    can_be_passed,
    check_entry,
    check_parameters,
)

DATA_SETS = "DATASETS_DIR"  # variable of the environment: the folder of data sets


@dataclass(frozen=True)
class Benchmark:
    """One entry of a file."""

    name: str
    entry: Mapping[str, Any]
    folder: Path  # where its command runs
    where: str = ""  # file and name, for messages
    missing_location: str = ""  # the folder that the entry names, if there is none

    @property
    def timeout(self) -> Optional[float]:
        return self.entry.get("timeout")

    @property
    def env(self) -> Dict[str, str]:
        return {str(name): str(value) for name, value in (self.entry.get("env") or {}).items()}

    @property
    def needs_data_set(self) -> bool:
        """Is this about real data, because neither its name nor a key says that there are none?"""
        return not any(part in self.name or self.entry.get(key) for key, part in NEEDS_NO_DATA_SET.items())


@dataclass(frozen=True)
class Variant:
    """A benchmark with values for its parameters."""

    name: str
    parameters: Mapping[str, str]


def read_spec(path: Path) -> Dict[str, Benchmark]:
    """Read the entries of a file; those whose name contains "options" are settings for the others and left out.

    The whole file is checked, with the commands and the expressions of every variant.

    Raises:
      UserError: it cannot be read, or an entry is not what it should be.
    """
    entries = load_yaml(path)
    if not isinstance(entries, dict):
        raise UserError(f"{path} must be a mapping from names to benchmarks.")
    found = {}
    for name, entry in entries.items():
        if isinstance(name, str) and "options" in name:
            continue
        check_entry(path, name, entry)
        found[name] = _benchmark(path, name, entry)
        for variant in variants(found[name]):
            words_of(found[name], command_of(found[name], variant), expand=False)
            _check_derived(found[name], variant)
    return found


def _benchmark(path: Path, name: str, entry: Mapping[str, Any]) -> Benchmark:
    folder, location = path.resolve().parent, entry.get("location") or ""
    # The reader it was made for starts from a checkout of all examples, where the location is this folder.
    missing = "" if (folder / location).is_dir() else location
    return Benchmark(name, entry, folder if missing else folder / location, f"{path}, {name}", missing)


def _check_derived(benchmark: Benchmark, variant: Variant) -> None:
    known: Dict[str, Any] = {**dict.fromkeys(benchmark.entry.get("data") or {}, 1.0), **variant.parameters}
    for name, metric in (benchmark.entry.get("derived") or {}).items():
        try:
            parse(fill(metric["expr"], known))
        except ValueError as error:
            raise UserError(
                f"{benchmark.where}, derived, {name}: expr cannot be used: {error}. It is arithmetic of numbers, and "
                "of {names} of data, of derived numbers above it and of parameters."
            ) from error
        known.setdefault(name, 1.0)


def variants(benchmark: Benchmark) -> List[Variant]:
    """Every variant: of a mapping of comma-separated values their product, of a list its rows under the first one.

    Raises:
      UserError: the parameters are neither.
    """
    parameters = benchmark.entry.get("parameters")
    check_parameters(benchmark.where or benchmark.name, parameters)
    if parameters is None:
        found: List[Dict[str, str]] = [{}]
    elif isinstance(parameters, dict):
        # The first parameter varies fastest.
        names = list(parameters)[::-1]
        values = [str(parameters[name]).split(",") for name in names]
        found = [dict(zip(names[::-1], row[::-1])) for row in itertools.product(*values)]
    else:
        header, *rows = parameters
        found = [{name: str(value) for name, value in zip(header, row)} for row in rows]
    return [
        Variant("_".join([benchmark.name, *(f"{name}_{found[name]}" for name in sorted(found))]), found)
        for found in found
    ]


def command_of(benchmark: Benchmark, variant: Variant) -> str:
    """The command on one line, with the variant's values in the place of its braces.

    Raises:
      UserError: it has braces that no parameter fills.
    """
    try:
        return " ".join(fill(benchmark.entry["cmd"], variant.parameters).split())
    except ValueError as error:
        known = ", ".join(variant.parameters) or "none"
        raise UserError(
            f"{benchmark.where or benchmark.name}: cmd has {error}: braces hold the name of a parameter (there are: "
            f"{known}), and literal braces are doubled."
        ) from error


def words_of(benchmark: Benchmark, command: str, expand: bool = True) -> List[str]:
    """The words of a command, as a shell parts them; `expand`: with variables of the environment.

    Raises:
      UserError: a quote is not closed, a word cannot be passed to a program, or the interpreter is none of the words.
    """
    where = benchmark.where or benchmark.name
    try:
        words = shlex.split(os.path.expandvars(command) if expand else command)
    except ValueError as error:
        raise UserError(f"{where}: cmd cannot be parted into words ({error}): {command}") from error
    odd = [word for word in words if not can_be_passed(word)]
    if odd:
        raise UserError(f"{where}: cmd has a word that no program can get (a null character, or half a letter): "
                        f"{odd[0]!r}.")  # fmt: skip
    if not {*INTERPRETERS} & {*words}:
        raise UserError(f"{where}: cmd must have the word python or python3 outside of quotes: {command}")
    return words


def hardware_of(words: Sequence[str]) -> Optional[str]:
    """Which accelerator a command is for, "ipu" or "gpu"; None where it is for none, or takes what there is.

    `--device ipu` and `--device gpu` say so, the last of them, in every spelling that the scripts take; else the
    launcher: poprun starts instances on IPUs.
    """
    start = next((number for number, word in enumerate(words) if word in INTERPRETERS), len(words))
    launcher, program = words[:start], words[start:]
    given = [
        word.partition("=")[2] if "=" in word else after
        for word, after in zip(program, [*program[1:], ""])
        if word.partition("=")[0] == "--device"
    ]
    if not given:
        return "ipu" if "poprun" in launcher else None
    device = None
    with contextlib.suppress(UserError):  # which the command itself will tell
        device = all_rules()["device"].check("device", given[-1])
    return device if device in ("ipu", "gpu") else None


def instances_counted_by_the_reader(command: str) -> int:
    """N of `mpirun ... --np N`, else 1: output of so many instances is taken to be of one of them."""
    found = re.search(r"--np[= ]+(\d{1,9})\b", command)
    return int(found[1]) if found and "mpirun" in command.split() else 1


def extract(benchmark: Benchmark, output: str, instances: int) -> Dict[str, Optional[float]]:
    """Find the numbers of `data` in the output, standard output before standard error; None where there is none.

    Raises:
      TimeoutError: an expression found no end; the message names it.
    """
    found: Dict[str, Optional[float]] = {}
    for name, metric in (benchmark.entry.get("data") or {}).items():
        try:
            values = _numbers(find_all(metric["regexp"], output))
        except TimeoutError as error:
            raise TimeoutError(f"data, {name}: {error}") from error
        skip, reduction = metric.get("skip", 0), metric.get("reduction_type", "mean")
        if reduction == "mean":
            # The worst are skipped: the longest latencies, the smallest of everything else.
            values = sorted(values, reverse=name == "latency")[skip:] if len(values) > skip else []
        elif len(values) <= skip:
            values = []
        value = REDUCTIONS[reduction](values) * (instances if name == "throughput" else 1) if values else None
        found[name] = _finite(value)
    return found


def _numbers(texts: List[str]) -> List[float]:
    """All as numbers; none of them where one is none: then the expression has met something else."""
    try:
        values = [float(text) for text in texts]
    except ValueError:
        return []
    return values if all(map(math.isfinite, values)) else []


def _finite(value: Optional[float]) -> Optional[float]:
    """The number, unless JSON has no such number."""
    return value if value is not None and math.isfinite(value) else None


def derive(benchmark: Benchmark, variant: Variant, found: Dict[str, Optional[float]]) -> Dict[str, Optional[float]]:
    """Compute the numbers of `derived`, each from those before it and the parameters; None where one is missing."""
    results = dict(found)
    for name, metric in (benchmark.entry.get("derived") or {}).items():
        try:
            given = {name: value for name, value in results.items() if value is not None}
            results[name] = _finite(float(evaluate(fill(metric["expr"], {**given, **variant.parameters}))))
        except (ValueError, TypeError, ArithmeticError):
            results[name] = None
    return results
