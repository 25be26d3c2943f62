# SPDX-License-Identifier: Apache-2.0
"""Which files of this project a module consists of: itself and whatever it imports, as far as it lies in the project.

Imports inside of functions count, packages' `__init__` files too, and `importlib.import_module` of a name that is
written out. What stands below `if TYPE_CHECKING:` is never executed and does not count. Nothing is imported for it.

A start from a kept executable waits for this, and to parse a hundred files takes longer than to start. So a file is
looked over for import statements that begin a line, which are parsed by themselves; where there may be one in another
place, or anything else that imports, the file is parsed as a whole. Lines of a docstring that look like an import count
as one: what is found is never too little.
"""

import ast
import hashlib
import os
import re
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Optional, Set

ROOT = Path(__file__).resolve().parents[2]
# What only type checkers read, where nothing else belongs to it.
_FOR_TYPES = re.compile(r"^if (?:typing\.)?TYPE_CHECKING:[^\n]*\n(?:[ \t]+[^\n]*\n|\n)*(?=\S|\Z)(?!el)", re.MULTILINE)
_STATEMENT = re.compile(r"^[ \t]*((?:from[ \t]+[.\w]+[ \t]+)?import\b(?:[ \t]*\([^()]*\)|[^\n(]*)[^\n]*)", re.MULTILINE)
_BEHIND = re.compile(r"[;:][ \t]*(?:from\b[^\n]*)?\bimport\b")  # a statement behind another one
_CONTINUED = re.compile(r"^[ \t]*(?:from|import)\b[^\n]*\\\n", re.MULTILINE)
_TYPES = re.compile(r"^(?![ \t]*from typing import )[^\n]*\bTYPE_CHECKING\b", re.MULTILINE)
_BY_NAME = ("import_module", "__import__")


class UnknownImportError(Exception):
    """A module imports what only a run knows: what it imports has to be named as an entry point."""


def closure(entries: Iterable[str], root: Path = ROOT) -> List[Path]:
    """The files that modules consist of.

    Args:
      entries: names of modules, such as "ipu_utils.model.network".
      root: the folder that names are looked for in.

    Returns:
      Paths, sorted.

    Raises:
      UnknownImportError: a module imports another by a name that is computed.
    """
    return sorted(_contents(entries, root))


def of_modules(entries: Iterable[str], root: Path = ROOT) -> str:
    """SHA-256 of the names and contents of all files that modules consist of; for the rest see `closure`."""
    found = hashlib.sha256()
    for path, content in sorted(_contents(entries, root).items()):
        found.update(f"{path.relative_to(root).as_posix()} {hashlib.sha256(content).hexdigest()}\n".encode())
    return found.hexdigest()


def _contents(entries: Iterable[str], root: Path) -> Dict[Path, bytes]:
    found: Dict[Path, bytes] = {}
    seen: Set[str] = set()
    listed: Dict[Path, Set[str]] = {}  # what folders hold, asked once
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        parent = name.rpartition(".")[0]
        if parent:  # importing a.b runs a, too
            waiting.append(parent)
        path = _file_of(name, root, listed)
        if path is not None:
            found[path] = path.read_bytes()
            package = name if path.name == "__init__.py" else parent
            waiting += imports(found[path].decode(), package)
    return found


def _file_of(name: str, root: Path, listed: Dict[Path, Set[str]]) -> Optional[Path]:
    """The file of a module, None of one that does not lie below `root`; the name may be a class's as well."""
    *folders, last = name.split(".")
    folder = root
    for part in (*folders, None):
        if folder not in listed:
            listed[folder] = set(os.listdir(str(folder))) if folder.is_dir() else set()
        if part is not None:
            if part not in listed[folder]:
                return None
            folder = folder / part
    package = folder / last / "__init__.py"
    if last in listed[folder] and package.is_file():
        return package
    return folder / f"{last}.py" if f"{last}.py" in listed[folder] else None


def imports(text: str, package: str = "") -> Set[str]:
    """Names of what a module imports: modules, and what is taken from them, which may be modules as well.

    Args:
      text: the module's source.
      package: that it belongs to, for relative imports.
    """
    return {name for node in _nodes(text) for name in _names(node, package)}


def _nodes(text: str) -> Iterable[ast.AST]:
    """Whatever imports in a module, and more."""
    read = _FOR_TYPES.sub("", text)
    elsewhere = (
        any(name in read for name in _BY_NAME)
        or _BEHIND.search(read) is not None
        or ("\\\n" in read and _CONTINUED.search(read) is not None)
        or ("TYPE_CHECKING" in read and _TYPES.search(read) is not None)
    )
    if not elsewhere:
        try:
            return ast.parse("\n".join(_STATEMENT.findall(read))).body
        except SyntaxError:  # words in a string that begin like a statement
            pass
    return _executed(ast.parse(text))


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it, but for what only type checkers read."""
    yield node
    children: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and _last_name(node.test) == "TYPE_CHECKING":
        children = node.orelse
    for child in children:
        yield from _executed(child)


def _last_name(node: ast.AST) -> Optional[str]:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def _names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = _absolute("." * node.level + (node.module or ""), package)
        yield module
        yield from (f"{module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and _last_name(node.func) in _BY_NAME:
        yield _absolute(_constant(node), package)


def _constant(call: ast.Call) -> str:
    names = call.args[:1] + [keyword.value for keyword in call.keywords if keyword.arg == "name"]
    try:
        name = ast.literal_eval(names[0])
    except (IndexError, ValueError):
        name = None
    if not isinstance(name, str):
        raise UnknownImportError(f"line {call.lineno} imports a module whose name is computed")
    return name


def _absolute(name: str, package: str) -> str:
    """The name of a module as seen from the project's folder; one dot in front is the package itself."""
    bare = name.lstrip(".")
    level = len(name) - len(bare)
    if not level:
        return name
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - level + 1], *filter(None, [bare])])
