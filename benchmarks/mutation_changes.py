# SPDX-License-Identifier: Apache-2.0
"""The changes that `mutation.py` tries: which lines can be changed into what, and which of them are drawn."""

import ast
import contextlib
import io
import random
import re
import warnings
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterator, List, NamedTuple

from mutation_areas import Area

ROOT = Path(__file__).resolve().parent.parent
RULES = {".py": ["universal.rules", "python.rules"], "C++": ["universal.rules", "c_like.rules", "cpp.rules"]}
LEFT_OUT = {"raise", "log", "logger", "print", "warn", "warning", "info", "error", "debug"}  # whose texts may change


class Change(NamedTuple):
    file: str
    line: int
    before: str
    after: str


class _Behaviour(ast.NodeTransformer):
    """Leaves of a module what its behaviour depends on."""

    def visit(self, node: ast.AST) -> Any:
        if getattr(node, "body", None) and isinstance(node.body, list) and isinstance(node.body[0], ast.Expr):
            node.body[0] = ast.Pass() if isinstance(node.body[0].value, ast.Constant) else node.body[0]
        for name in ("annotation", "returns"):
            if hasattr(node, name):
                setattr(node, name, ast.Name("annotation") if name == "annotation" else None)
        called = getattr(node, "func", None)
        if isinstance(node, ast.Raise) or getattr(called, "attr", getattr(called, "id", None)) in LEFT_OUT:
            for inner in ast.walk(node):
                if isinstance(inner, ast.JoinedStr):
                    inner.values = []
                elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    inner.value = ""
        return self.generic_visit(node)


def _behaviour(source: str, python: bool) -> str:
    """What two sources have in common when the one behaves like the other; raises SyntaxError."""
    if python:
        return ast.dump(_Behaviour().visit(ast.parse(source)))
    source = re.sub(r'"(\\.|[^"\\\n])*"', '""', source)
    source = re.sub(r"//[^\n]*|/\*.*?\*/", "", source, flags=re.DOTALL)
    source = re.sub(r"\s+", " ", source)
    return re.sub(r"(\breturn\b[^;]*;)( (break|continue);)+", r"\1", source)  # Nothing gets there.


def changes(file: str) -> List[List[Change]]:
    """The changes of a file, by line."""
    from universalmutator import mutator

    path = ROOT / file
    lines = path.read_text().splitlines(keepends=True)
    with contextlib.redirect_stdout(io.StringIO()):
        mutants = mutator.mutants_regexp(
            lines, ruleFiles=RULES[".py" if path.suffix == ".py" else "C++"], ignorePatterns=[]
        )
    by_line: Dict[int, List[Change]] = {}
    for line, text, *_ in mutants:
        by_line.setdefault(line, []).append(Change(file, line, lines[line - 1], text))
    return [by_line[line] for line in sorted(by_line)]


def _names(source: str) -> FrozenSet[str]:
    """Every name in Python source, of variables, attributes, arguments and modules."""
    parts = ("id", "attr", "arg", "name", "module")
    return frozenset(str(getattr(node, part, "")) for node in ast.walk(ast.parse(source)) for part in parts)


def matters(change: Change) -> bool:
    """Whether a change compiles, makes up no name and is more than one of comments, annotations or texts."""
    original = (ROOT / change.file).read_text()
    lines = original.splitlines(keepends=True)
    changed = "".join([*lines[: change.line - 1], change.after, *lines[change.line :]])
    python = change.file.endswith(".py")
    try:
        if python:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compile(changed, change.file, "exec")
            if not _names(changed) <= _names(original):
                return False
        return _behaviour(changed, python) != _behaviour(original, python)
    except (SyntaxError, ValueError):
        return False


def candidates(area: Area, seed: int) -> Iterator[Change]:
    """An area's changes in the order in which they are tried, one of every line but comments, brackets and imports."""
    draw = random.Random(f"{seed} {area.name}")
    absent = [pattern for pattern in area.files if not any(ROOT.glob(pattern))]
    if absent:
        raise SystemExit(f"area {area.name}: no file is called {', '.join(absent)}")
    files = sorted({str(path.relative_to(ROOT)) for pattern in area.files for path in ROOT.glob(pattern)})
    lines = [line for file in files for line in changes(file)]
    draw.shuffle(lines)
    for line in lines:
        alternatives = draw.sample(line, len(line))
        code = line[0].before.strip()
        if code.startswith(("#", "//", "from ", "import ")) or not re.search(r"\w", code):
            continue
        change = next(filter(matters, alternatives), None)
        if change is not None:
            yield change
