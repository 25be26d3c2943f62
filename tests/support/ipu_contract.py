# SPDX-License-Identifier: Apache-2.0
"""Hold source code against the interface of Graphcore's TensorFlow, PopDist and libpvti, as tests/data/ipu records it.

Static: names are followed from the imports; every attribute must exist and every call must bind to the real signature,
also those of objects made from the real classes. What only running shows, the type-checked stand-in shows.
"""

import ast
import enum
import inspect
import json
from pathlib import Path

from ipu_utils.base.keras2 import tf

DATA = Path(__file__).resolve().parents[1] / "data" / "ipu"
ROOTS = ("tensorflow.python.ipu", "popdist", "libpvti")
KINDS = {
    "positional_only": inspect.Parameter.POSITIONAL_ONLY,
    "positional_or_keyword": inspect.Parameter.POSITIONAL_OR_KEYWORD,
    "var_positional": inspect.Parameter.VAR_POSITIONAL,
    "keyword_only": inspect.Parameter.KEYWORD_ONLY,
    "var_keyword": inspect.Parameter.VAR_KEYWORD,
}


# Base classes that are TensorFlow's own.
STOCK_BASES = {
    "distribute_lib.StrategyV1": tf.compat.v1.distribute.Strategy,
    "Enum": enum.Enum,
}


def load_api():
    """Return module name -> name -> entry."""
    files = [
        json.loads((DATA / name).read_text(encoding="utf-8")) for name in ("tensorflow_ipu_api.json", "additions.json")
    ]
    return {module: names for content in files for module, names in content.items() if module != "__meta__"}


API = load_api()
# Iterators hand keywords on to the infeed, which takes any and looks at no others than its own: a misspelt one is lost.
_INFEED = API["tensorflow.python.ipu.ipu_infeed_queue"]
LOSE_KEYWORDS = [entry for entry in _INFEED.values() if any(p["kind"] == "var_keyword" for p in entry["params"])]
INFEED_KEYWORDS = {p["name"] for p in _INFEED["IPUInfeedQueue"]["params"] if p["kind"] != "var_keyword"}


def signature_of(entry):
    """The recorded parameters as a Signature."""
    optional = False  # behind a parameter with a default, null means that the default is not known
    parameters = []
    for parameter in entry.get("params") or []:
        kind = KINDS[parameter["kind"]]
        positional = kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        optional = optional or (positional and parameter["default"] is not None)
        default = None if (optional and positional) or parameter["default"] is not None else inspect.Parameter.empty
        parameters.append(inspect.Parameter(parameter["name"], kind, default=default))
    return inspect.Signature(parameters)


class UnknownNameError(Exception):
    """A name that the interface does not have."""


def lookup(module, name):
    """Follow one step from a module: ("module", name) or ("entry", entry)."""
    entry = API.get(module, {}).get(name)
    if entry is not None:
        target = entry.get("exports") or entry.get("alias_of")
        if target is None:
            return "entry", entry
        if target in API or any(known.startswith(target + ".") for known in API):
            return "module", target
        owner, _, last = target.rpartition(".")
        return lookup(owner or module, last)
    if f"{module}.{name}" in API:
        return "module", f"{module}.{name}"
    raise UnknownNameError(f"{module} has no {name}")


class _Checker(ast.NodeVisitor):
    """Walks one module and collects departures from the interface."""

    def __init__(self):
        self.problems, self.scopes, self.attributes = [], [{}], {}

    def complain(self, node, text):
        self.problems.append(f"line {node.lineno}: {text}")

    # Names

    def visit_Import(self, node):
        for name in node.names:
            if _ours(name.name):
                bound = name.asname or name.name.split(".")[0]
                self.scopes[-1][bound] = ("module", name.name if name.asname else name.name.split(".")[0])

    def visit_ImportFrom(self, node):
        for name in node.names:
            full = f"{node.module}.{name.name}"
            if not (_ours(full) or _ours(node.module or "")):
                continue
            try:
                found = ("module", full) if full in ROOTS or full in API else lookup(node.module, name.name)
                self.scopes[-1][name.asname or name.name] = found
            except UnknownNameError as error:
                self.complain(node, str(error))

    def visit_FunctionDef(self, node):
        hidden = {argument.arg: None for argument in node.args.args + node.args.kwonlyargs}
        self.scopes.append(hidden)
        self.generic_visit(node)
        self.scopes.pop()

    def named(self, name):
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return None

    def resolve(self, node):
        """What an expression is: ("module" | "entry" | "object" | "category" | "leaf", ...), or None when not ours."""
        if isinstance(node, ast.Name):
            return self.named(node.id)
        if isinstance(node, ast.Call):
            made = self.resolve(node.func)
            return ("object", made[1]) if made and made[0] == "entry" and made[1]["kind"] == "class" else None
        if isinstance(node, ast.Subscript):
            enum = self.resolve(node.value)
            return ("leaf", None) if enum and enum[0] == "entry" and enum[1]["kind"] == "enum" else None
        if not isinstance(node, ast.Attribute):
            return None
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            return self.attributes.get(node.attr)
        owner = self.resolve(node.value)
        return None if owner is None else self.step(owner, node)

    def step(self, owner, node):
        kind, what = owner
        if kind == "module":
            return lookup(what, node.attr)
        if kind == "category":
            if node.attr not in what:
                raise UnknownNameError(f"no configuration attribute {node.attr!r}")
            inside = what[node.attr]
            return ("category", inside["members"]) if "members" in inside else ("leaf", inside)
        if kind in ("entry", "object"):
            members = what.get("members") or {}
            if node.attr in members:
                return "entry", members[node.attr]
            if kind == "object" and "config_attributes" in what:
                return self.step(("category", what["config_attributes"]), node)
            if any(hasattr(STOCK_BASES.get(base), node.attr) for base in what.get("bases") or []):
                return None  # inherited, and none of ours
            raise UnknownNameError(f"no attribute {node.attr!r}")
        return None

    # Uses

    def visit_Attribute(self, node):
        try:
            self.resolve(node)
        except UnknownNameError as error:
            self.complain(node, str(error))
        else:
            self.generic_visit(node)

    def visit_Call(self, node):
        try:
            called = self.resolve(node.func)
        except UnknownNameError as error:
            self.complain(node, str(error))
            called = None
        if called and called[0] == "entry" and called[1]["kind"] in ("function", "method", "class"):
            keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
            try:
                signature_of(called[1]).bind(*node.args, **keywords)
            except TypeError as error:
                self.complain(node, f"{_dotted(node.func)}: {error}")
            if any(called[1] is entry for entry in LOSE_KEYWORDS):
                own = {p["name"] for p in called[1]["params"]}
                for keyword in sorted(set(keywords) - own - INFEED_KEYWORDS):
                    self.complain(node, f"{_dotted(node.func)}: {keyword} would be overlooked")
        self.generic_visit(node)

    def visit_Assign(self, node):
        self.generic_visit(node)
        try:
            made = self.resolve(node.value)
        except UnknownNameError:
            return  # complained about above
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.scopes[-1][target.id] = made
            elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
                self.attributes[target.attr] = made


def _dotted(node):
    return f"{_dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else getattr(node, "id", "...")


def _ours(module):
    return any(module == root or module.startswith(root + ".") for root in ROOTS)


def problems_in(source):
    """Every place where `source` departs from the interface, as far as reading it tells."""
    checker = _Checker()
    checker.visit(ast.parse(source))
    return checker.problems


def imports_of(source):
    """Modules of the SDK that `source` imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names if _ours(name.name))
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(full for name in node.names for full in [f"{node.module}.{name.name}"] if _ours(full))
    return found
