# SPDX-License-Identifier: Apache-2.0
"""Read the public declarations of simple C++ headers: enough for those of tests/poplar_model, not for C++ at large."""

import re
from typing import Dict, List, NamedTuple, Tuple


class Function(NamedTuple):
    name: str  # with namespaces and classes
    returns: str  # "" for constructors
    parameters: Tuple[Tuple[str, str, str], ...]  # (type, name, default)
    template: bool

    @property
    def types(self) -> Tuple[str, ...]:
        return tuple(kind for kind, _, _ in self.parameters)

    @property
    def min_args(self) -> int:
        """How many arguments have no default."""
        return sum(not default for _, _, default in self.parameters)


class Declarations(NamedTuple):
    functions: List[Function]
    enums: Dict[str, List[str]]


def split_at_commas(text: str) -> List[str]:
    """Split at the commas that stand outside all brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += {"(": 1, "<": 1, "{": 1, ")": -1, ">": -1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts if part.strip()]


def normalise(kind: str) -> str:
    """Write a type as the symbol files do: no namespace poplar, "unsigned int" in full, a space before & and *."""
    kind = re.sub(r"\bpoplar::(program::)?", r"\1", kind.strip())
    kind = re.sub(r"\bunsigned\b(?!\s+(int|char|short|long))", "unsigned int", kind)
    kind = re.sub(r"(?<!std::)\b(size_t|uint64_t|int32_t|uint16_t)\b", r"std::\1", kind)
    return re.sub(r"\s*([&*])", r" \1", re.sub(r"\s+", " ", kind)).strip()


def _parameter(text: str) -> Tuple[str, str, str]:
    declaration, _, default = (part.strip() for part in text.partition("="))
    match = re.match(r"^(.*?[\s&*.>])(\w+)$", declaration, re.DOTALL)
    kind, name = match.groups() if match else (declaration, "")
    return normalise(kind), name, default


def _function(statement: str, scope: List[str]):
    """Return the Function that a statement declares in these scopes, or None."""
    template = statement.startswith("template")
    while statement.startswith("template"):
        statement = re.sub(r"^template\s*<[^<>]*(?:<[^<>]*>[^<>]*)*>\s*", "", statement)
    opening = statement.find("(")
    match = re.search(r"([\w~]+)\s*$", statement[:opening]) if opening > 0 else None
    if not match or "operator" in statement[: opening + 1] or match.group(1).startswith("~"):
        return None
    depth, closing = 0, opening
    while True:
        depth += {"(": 1, ")": -1}.get(statement[closing], 0)
        if depth == 0:
            break
        closing += 1
    returns = re.sub(r"\b(inline|static|explicit|virtual|extern)\b", "", statement[: match.start()]).strip()
    parameters = tuple(map(_parameter, split_at_commas(statement[opening + 1 : closing])))
    return Function("::".join([*scope, match.group(1)]), normalise(returns), parameters, template)


def read(text: str) -> Declarations:
    """Return what the text of a header declares outside of private sections, namespace detail and function bodies."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
    text = re.sub(r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", "", text, flags=re.MULTILINE)
    functions, enums = [], {}
    scopes: List[Tuple[str, str]] = []  # (kind, name); kind "private" hides what is inside
    statement = ""

    def declare(statement):
        hidden = any(kind in ("private", "body") or name == "detail" for kind, name in scopes)
        if not hidden and not statement.startswith(("using", "friend", "extern const", "static_assert")):
            function = _function(statement, [name for _, name in scopes])
            if function and not function.returns.endswith("::"):  # that is the definition of a member
                functions.append(function)

    for char in text:
        if char not in "{};:":
            statement += char
            continue
        if char == ":":
            label = statement.strip()
            if label in ("public", "private", "protected"):
                scopes[-1] = ("class" if label == "public" else "private", scopes[-1][1])
                statement = ""
            else:
                statement += char
            continue
        clean = re.sub(r"\s+", " ", statement).strip()
        inside_braces = clean.count("(") > clean.count(")") or clean.endswith(("=", ", "))
        if char == "{" and (inside_braces or (clean and scopes and scopes[-1][0] == "braces")):
            scopes.append(("braces", ""))  # a default argument or an initialiser
            statement += char
        elif char == "}" and scopes and scopes[-1][0] == "braces":
            scopes.pop()
            statement += char
        elif char == "{":
            match = re.match(r"(?:template <.*> )?(namespace|class|struct|enum class|enum) ([\w:]+)", clean)
            if match and "(" not in clean:
                kind, name = match.groups()
                scopes.append(("private" if kind == "class" else kind, name))
            else:
                declare(clean)
                scopes.append(("body", ""))
            statement = ""
        elif char == "}":
            kind, name = scopes.pop()
            if kind.startswith("enum"):
                enums["::".join([*(outer for _, outer in scopes), name])] = split_at_commas(clean)
            statement = ""
        else:
            declare(clean)
            statement = ""
    return Declarations(functions, enums)
