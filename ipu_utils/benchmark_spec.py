# SPDX-License-Identifier: Apache-2.0
"""What a benchmarks.yml says, as Graphcore's examples-utils reads it: variants, commands, numbers in their output."""

import ast
import itertools
import math
import operator
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from ipu_utils.errors import UserError
from ipu_utils.options import did_you_mean
from ipu_utils.presets import load_yaml

KEYS = ("cmd", "parameters", "data", "derived", "env", "location", "timeout", "requirements_file", "generated",
        "synthetic", "description", "output", "reproducible")  # fmt: skip
REDUCTIONS = {
    "mean": lambda values: sum(values) / len(values),
    "final": lambda values: values[-1],
    "min": min,
    "value": lambda values: values[0],
}
OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
    ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip
LARGEST_POWER = 100
NEEDS_NO_DATA_SET = {"generated": "gen", "synthetic": "synth"}  # key: what a name has in it instead
DATA_SETS = "DATASETS_DIR"  # variable of the environment: the folder of data sets
FUNCTIONS = {"min": min, "max": max, "abs": abs, "round": round, "sum": lambda *values: sum(values)}


@dataclass(frozen=True)
class Benchmark:
    """One entry of a file."""

    name: str
    entry: Mapping[str, Any]
    folder: Path  # where its command runs

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

    Raises:
      UserError: it cannot be read, or an entry is not what it should be.
    """
    entries = load_yaml(path)
    if not isinstance(entries, dict):
        raise UserError(f"{path} must be a mapping from names to benchmarks.")
    return {
        str(name): Benchmark(str(name), _checked(f"{path}, {name}", entry), _folder(path, entry))
        for name, entry in entries.items()
        if "options" not in str(name)
    }


def _folder(path: Path, entry: Mapping[str, Any]) -> Path:
    folder = path.resolve().parent
    location = folder / str(entry.get("location") or "")
    # The reader it was made for starts from a checkout of all examples, where the location is this folder.
    return location if location.is_dir() else folder


def _checked(where: str, entry: Any) -> Mapping[str, Any]:
    if not isinstance(entry, dict):
        raise UserError(f"{where}: must be a mapping with a cmd.")
    unknown = [key for key in entry if key not in KEYS]
    if unknown:
        raise UserError(f"{where}: {unknown[0]!r} is not a key of a benchmark.{did_you_mean(unknown[0], KEYS)}")
    command = entry.get("cmd")
    if not isinstance(command, str) or not {"python", "python3"} & {*command.split()}:
        raise UserError(f"{where}: cmd must be a command with the word python or python3.")
    for section in ("data", "derived", "env"):
        if not isinstance(entry.get(section) or {}, dict):
            raise UserError(f"{where}: {section} must be a mapping.")
    for name, metric in (entry.get("data") or {}).items():
        _check_metric(f"{where}, data, {name}", metric)
    for name, metric in (entry.get("derived") or {}).items():
        if not isinstance(metric, dict) or not isinstance(metric.get("expr"), str):
            raise UserError(f"{where}, derived, {name}: must have an expr.")
    for key in NEEDS_NO_DATA_SET:
        if not isinstance(entry.get(key, False), bool):
            raise UserError(f"{where}: {key} must be true or false, found {entry[key]!r}.")
    timeout = entry.get("timeout")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0):
        raise UserError(f"{where}: timeout must be seconds above 0, found {timeout!r}.")
    return entry


def _check_metric(where: str, metric: Any) -> None:
    if not isinstance(metric, dict) or not isinstance(metric.get("regexp"), str):
        raise UserError(f"{where}: must have a regexp.")
    try:
        groups = re.compile(metric["regexp"]).groups
    except re.error as error:
        raise UserError(f"{where}: the regexp cannot be used: {error}.") from error
    if groups != 1:
        raise UserError(f"{where}: the regexp must have one group in parentheses, the number; it has {groups}.")
    if metric.get("reduction_type", "mean") not in REDUCTIONS:
        raise UserError(f"{where}: reduction_type must be one of {', '.join(REDUCTIONS)}.")
    skip = metric.get("skip", 0)
    if isinstance(skip, bool) or not isinstance(skip, int) or skip < 0:
        raise UserError(f"{where}: skip must be a whole number of at least 0.")


def variants(benchmark: Benchmark) -> List[Variant]:
    """Every variant: of a mapping of comma-separated values their product, of a list its rows under the first one.

    Raises:
      UserError: the parameters are neither.
    """
    parameters = benchmark.entry.get("parameters")
    if parameters is None:
        found: List[Dict[str, str]] = [{}]
    elif isinstance(parameters, dict):
        # The first parameter varies fastest.
        names = list(parameters)[::-1]
        values = [str(parameters[name]).split(",") for name in names]
        found = [dict(zip(names[::-1], row[::-1])) for row in itertools.product(*values)]
    elif isinstance(parameters, list) and parameters and all(isinstance(row, list) for row in parameters):
        header, *rows = parameters
        if any(len(row) != len(header) for row in rows):
            raise UserError(
                f"{benchmark.name}: every row of parameters needs {len(header)} values, as its first names."
            )
        found = [{str(name): str(value) for name, value in zip(header, row)} for row in rows]
    else:
        raise UserError(f"{benchmark.name}: parameters must be a mapping, or a list of rows whose first has the names.")
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
        return " ".join(benchmark.entry["cmd"].format(**variant.parameters).split())
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(
            f"{benchmark.name}: cmd asks for the parameter {error}, which there is not: literal braces are doubled."
        ) from error


def instances_counted_by_the_reader(command: str) -> int:
    """N of `mpirun ... --np N`, else 1: output of so many instances is taken to be of one of them."""
    found = re.search(r"--np[= ]+(\d+)", command)
    return int(found[1]) if found and "mpirun" in command.split() else 1


def extract(benchmark: Benchmark, output: str, instances: int) -> Dict[str, Optional[float]]:
    """Find the numbers of `data` in the output, standard output before standard error; None where there is none."""
    found: Dict[str, Optional[float]] = {}
    for name, metric in (benchmark.entry.get("data") or {}).items():
        values = _numbers(re.findall(metric["regexp"], output))
        skip, reduction = metric.get("skip", 0), metric.get("reduction_type", "mean")
        if reduction == "mean":
            # The worst are skipped: the longest latencies, the smallest of everything else.
            values = sorted(values, reverse=name == "latency")[skip:] if len(values) > skip else []
        elif len(values) <= skip:
            values = []
        found[name] = REDUCTIONS[reduction](values) * (instances if name == "throughput" else 1) if values else None
    return found


def _numbers(texts: List[str]) -> List[float]:
    """All as numbers; none of them where one is none: then the expression has met something else."""
    try:
        values = [float(text) for text in texts]
    except ValueError:
        return []
    return [] if any(math.isnan(value) for value in values) else values


def derive(benchmark: Benchmark, variant: Variant, found: Dict[str, Optional[float]]) -> Dict[str, Optional[float]]:
    """Compute the numbers of `derived`, each from those before it and the parameters; None where one is missing."""
    results = dict(found)
    for name, metric in (benchmark.entry.get("derived") or {}).items():
        try:
            results[name] = float(evaluate(metric["expr"].format(**{**results, **variant.parameters})))
        except (KeyError, ValueError, TypeError, ArithmeticError):
            results[name] = None
    return results


def evaluate(expression: str) -> float:
    """Value of an arithmetic expression of numbers.

    Raises:
      ValueError: it is anything else.
    """

    def value(node: ast.AST) -> Any:
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return node.value
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            left, right = value(node.left), value(node.right)
            if isinstance(node.op, ast.Pow) and max(abs(left), abs(right)) > LARGEST_POWER:
                raise ValueError(f"{left} to the power of {right} is too much")
            return OPERATORS[type(node.op)](left, right)
        if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
            return OPERATORS[type(node.op)](value(node.operand))
        called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
        if called in FUNCTIONS and not node.keywords:
            return FUNCTIONS[called](*map(value, node.args))
        raise ValueError(f"{expression!r} is not arithmetic of numbers")

    try:
        return value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{expression!r} is not arithmetic of numbers") from error
