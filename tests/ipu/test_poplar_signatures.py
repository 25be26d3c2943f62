# SPDX-License-Identifier: Apache-2.0
"""What the model of Poplar declares is what Poplar declares: its headers against the symbols of the real ones.

The symbol files (tests/data/ipu) give argument types and how many arguments are optional for Poplar's host classes, and
whole declarations for PopLibs. Poplar's dump has no operators and no default constructors; what else it lacks is listed
here with the place that the knowledge comes from.
"""

import json
from pathlib import Path

import cpp_declarations
import poplar_model
import pytest

DATA = Path(__file__).resolve().parents[1] / "data" / "ipu"
INCLUDE = poplar_model.MODEL / "include"

# Headers whose contents the dump leaves out: basic types from another library of Poplar's, and the codelet side.
NOT_IN_DUMP = {
    "poplar/ArrayRef.hpp", "poplar/StringRef.hpp", "poplar/Interval.hpp", "poplar/HalfFloat.hpp", "poplar/Vertex.hpp",
    "poplar/exceptions.hpp",
}  # fmt: skip

# Overloads that the dump leaves out, but public code uses: the public NMS operator, poplibs, tutorials.
KNOWN_FROM_USE = {
    ("poplar::DebugContext::DebugContext", ("const char *",)),
    ("poplar::DebugContext::DebugContext", ("std::string",)),
    ("poplar::DebugContext::DebugContext", ("const DebugContext &", "StringRef")),
    ("poplar::Graph::addConstant", ("const Type &", "ArrayRef<std::size_t>", "T", "const DebugContext &")),
    ("poplar::Graph::setInitialValue", ("FieldRef", "T")),
    ("poplar::program::Sequence::Sequence", ("std::initializer_list<Program>", "const DebugContext &")),
    ("poplar::Graph::Graph", ("Graph & &",)),
}


def headers(folder):
    return sorted(path.relative_to(INCLUDE).as_posix() for path in (INCLUDE / folder).glob("*.hpp"))


@pytest.fixture(scope="module")
def poplar_symbols():
    return json.loads((DATA / "poplar_symbols.json").read_text())


@pytest.fixture(scope="module")
def poplibs_symbols():
    return json.loads((DATA / "poplibs_symbols.json").read_text())["headers"]


def poplar_differences(text, symbols):
    """Return what a header declares and Poplar does not, as sentences."""
    declared, differences = cpp_declarations.read(text), []
    for function in declared.functions:
        name = function.name
        if not name.startswith("poplar::") or (name.split("::")[-1] == name.split("::")[-2] and not function.types):
            continue
        if (name, function.types) in KNOWN_FROM_USE:
            continue
        known = symbols["symbols"].get(name, [])
        normal = {tuple(map(cpp_declarations.normalise, overload["args"])): overload for overload in known}
        overload = normal.get(function.types)
        if overload is None:
            differences.append(f"{name} does not take {function.types}, but {sorted(normal)}")
        # Only methods and constructors are measured; a function's number includes its optional arguments.
        elif overload["kind"] in ("method", "constructor") and overload["min_args"] != function.min_args:
            differences.append(
                f"{name}{function.types} needs {overload['min_args']} arguments, not {function.min_args}"
            )
    for name, values in declared.enums.items():
        if symbols["enums"].get(name) != values:
            differences.append(f"enum {name} is {symbols['enums'].get(name)}, not {values}")
    return differences


def poplibs_differences(text, header):
    """Return what a header declares otherwise than PopLibs, as sentences."""
    differences = []
    for function in cpp_declarations.read(text).functions:
        if function.name.startswith(("poputil::VertexTemplateToString", "poputil::poplibs_error")):
            continue  # a type: the file lists namespace-level functions
        known = [
            (
                cpp_declarations.normalise(overload["returns"]),
                tuple(
                    (cpp_declarations.normalise(kind), *(rest if len(rest) == 2 else (*rest, "")))
                    for kind, *rest in overload["params"]
                ),
            )
            for overload in header["functions"].get(function.name, [])
        ]
        mine = (function.returns, function.parameters)
        if mine[1] and mine[1][-1][1] == "args":  # a parameter pack: the file writes its name with the type
            mine = (mine[0], (*mine[1][:-1], ("Args & &...args", "", "")))
        if mine not in known:
            differences.append(f"{function.name} is {known}, not {mine}")
    return differences


@pytest.mark.parametrize("header", [name for name in headers("poplar") if name not in NOT_IN_DUMP])
def test_poplar_declarations_are_those_of_poplar(header, poplar_symbols):
    assert poplar_differences((INCLUDE / header).read_text(), poplar_symbols) == []


@pytest.mark.parametrize("header", headers("poputil"))
def test_poputil_declarations_are_those_of_poplibs(header, poplibs_symbols):
    assert poplibs_differences((INCLUDE / header).read_text(), poplibs_symbols[header]) == []


@pytest.mark.parametrize(
    ("header", "text", "changed"),
    [
        (
            "poplar/Tensor.hpp",
            "slice(std::size_t begin, std::size_t end, unsigned dimension)",
            "slice(int b, int e, int d)",
        ),
        ("poplar/Tensor.hpp", "Tensor flatten() const;", "Tensor flattened() const;"),
        ("poplar/Tensor.hpp", "const Interval &interval, unsigned dimension = 0", "const Interval &i, unsigned d"),
        ("poplar/Graph.hpp", "std::uint64_t flops = 0", "std::uint64_t flops"),
        (
            "poplar/Graph.hpp",
            "void setTileMapping(VertexRef vertex, unsigned tile)",
            "void map(VertexRef v, unsigned t)",
        ),
        ("poplar/Program.hpp", "bool dontOutline = false, const", "const"),
        ("poplar/Target.hpp", "{ IPU, IPU_MODEL, CPU }", "{ IPU, CPU }"),
    ],
)
def test_a_changed_poplar_declaration_is_noticed(header, text, changed, poplar_symbols):
    source = (INCLUDE / header).read_text()
    assert text in source
    assert poplar_differences(source.replace(text, changed), poplar_symbols)


@pytest.mark.parametrize(
    ("header", "text", "changed"),
    [
        ("poputil/TileMapping.hpp", "bool ascendingOrder = true", "bool ascendingOrder = false"),
        ("poputil/TileMapping.hpp", "void mapTensorLinearly", "bool mapTensorLinearly"),
        ("poputil/VertexTemplates.hpp", "templateVertex(const std::string &name", "templateVertex(std::string name"),
    ],
)
def test_a_changed_poputil_declaration_is_noticed(header, text, changed, poplibs_symbols):
    source = (INCLUDE / header).read_text()
    assert text in source
    assert poplibs_differences(source.replace(text, changed), poplibs_symbols[header])


def test_the_symbols_that_the_operator_needs_are_seen():
    # The reader skips what it does not understand; it must not skip what matters.
    names = set()
    for header in headers("poplar") + headers("poputil"):
        names.update(function.name for function in cpp_declarations.read((INCLUDE / header).read_text()).functions)
    assert {
        "poplar::Graph::addVariable", "poplar::Graph::addConstant", "poplar::Graph::addComputeSet",
        "poplar::Graph::addVertex", "poplar::Graph::connect", "poplar::Graph::setInitialValue",
        "poplar::Graph::setPerfEstimate", "poplar::Graph::setTileMapping", "poplar::Graph::getTarget",
        "poplar::Target::getNumTiles", "poplar::Target::getNumWorkerContexts", "poplar::Tensor::slice",
        "poplar::Tensor::flatten", "poplar::Tensor::expand", "poplar::Tensor::reinterpret", "poplar::concat",
        "poplar::program::Sequence::add", "poplar::program::Execute::Execute", "poplar::program::Copy::Copy",
        "poplar::program::RepeatWhileTrue::RepeatWhileTrue", "poputil::templateVertex",
    } <= names  # fmt: skip
