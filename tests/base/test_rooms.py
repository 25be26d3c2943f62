# SPDX-License-Identifier: Apache-2.0
"""The order of the rooms of ipu_utils, read from the imports of every module, those inside of functions too."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
PUBLISHED = "ipu_utils.embedded"  # the old name of executable/runtime.py
FEW = 12  # imports inside of functions


def floors():
    """Floor by room, from the table of docs/ARCHITECTURE.md."""
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", PAGE, re.MULTILINE)
    return {room: int(floor) for floor, cell in rows for room in re.findall(r"`(\w+)/`", cell)}


def modules():
    """Path by name."""
    found = {}
    for path in sorted((ROOT / "ipu_utils").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[re.sub(r"\.__init__$", "", name)] = path
    return found


MODULES = modules()


def parsed(name):
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imports(tree, by_name=True, own=MODULES):
    """The modules of this project that the code imports; `by_name`: by `import_module` too, as backends are."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in own else node.module for name in names]
        elif by_name and isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            names = [getattr(argument, "value", None) for argument in node.args]
        yield from (name for name in names if name in own and name != "ipu_utils")


def room_of(name):
    parts = name.split(".")
    return parts[1] if len(parts) > 2 or MODULES[name].name == "__init__.py" else None


def floor_of(name):
    return floors()[room_of(name)] if room_of(name) else max(floors().values()) + 1


def test_what_lies_directly_in_ipu_utils_can_be_typed():
    here = {path.stem for path in (ROOT / "ipu_utils").glob("*.py")} - {"__init__"}
    assert len(here) <= 8
    for name in here:
        assert '\nif __name__ == "__main__":' in (ROOT / "ipu_utils" / f"{name}.py").read_text(encoding="utf-8")


def test_every_room_is_on_the_page():
    rooms = {path.parent.name for path in (ROOT / "ipu_utils").glob("*/__init__.py")}
    assert rooms - {PUBLISHED.split(".")[1]} == set(floors())


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith(PUBLISHED)])
def test_imports_go_down(name):
    for target in imports(parsed(name)):
        down = floor_of(target) < floor_of(name)
        assert down or room_of(target) == room_of(name), f"{name} imports {target}"


def test_no_imports_go_in_a_circle():
    edges = {name: set(imports(parsed(name))) - {name} for name in MODULES}
    while edges:
        done = {name for name, targets in edges.items() if not targets & edges.keys()}
        assert done, f"in a circle, or above one: {sorted(edges)}"
        edges = {name: targets for name, targets in edges.items() if name not in done}


def test_few_imports_are_inside_of_functions():
    inside = []
    for name in MODULES:
        functions = [
            node for node in ast.walk(parsed(name)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        ]
        inside += [f"{name}: {target}" for function in functions for target in set(imports(function, by_name=False))]
    assert len(inside) <= FEW, inside
