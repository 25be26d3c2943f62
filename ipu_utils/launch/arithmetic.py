# SPDX-License-Identifier: Apache-2.0
"""Texts of others, filled and evaluated without running anything: names in braces, arithmetic of numbers."""

import ast
import operator
import string
from typing import Any, Callable, List, Mapping

OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
    ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip
# A float is rounded at once, a whole number to -10**9 digits never.
FUNCTIONS = {
    "min": min, "max": max, "abs": abs, "sum": lambda *values: sum(values),
    "round": lambda value, digits=0: round(float(value), int(digits)),
}  # fmt: skip
LARGEST_POWER = 100
LONGEST_EXPRESSION = 1000  # letters; Python's own parser is recursive
MOST_PARENTHESES = 50  # that open; the parser of Python 3.8 prints something where they are nested too deeply


def fill(template: str, values: Mapping[str, Any]) -> str:
    """Put values into the place of their names in braces, as `str.format` does; doubled braces are literal.

    Raises:
      ValueError: something else is in braces, or they are not closed; says what.
    """
    pieces: List[str] = []
    for literal, name, form, conversion in string.Formatter().parse(template):
        pieces.append(literal)
        if name is None:
            continue
        if form or conversion:
            raise ValueError(f"a format in {{{name}...}}")
        if name not in values or name.isdigit():  # to str.format, those are places in a list
            raise ValueError(f"{name!r} in braces")
        pieces.append(str(values[name]))
    return "".join(pieces)


def evaluate(expression: str) -> float:
    """Value of an arithmetic expression of numbers.

    Raises:
      ValueError: it is anything else. ArithmeticError, TypeError: it has no value, such as 1 / 0 or max(1).
    """
    return parse(expression)()


def parse(expression: str) -> Callable[[], Any]:
    """Check an expression, and return what computes it.

    Raises:
      ValueError: it is not arithmetic of numbers.
    """
    refusal = ValueError(f"{expression[:100]!r} is not arithmetic of numbers")
    if len(expression) > LONGEST_EXPRESSION:
        raise ValueError(f"an expression of more than {LONGEST_EXPRESSION} letters")

    if expression.count("(") > MOST_PARENTHESES:
        raise ValueError(f"an expression of more than {MOST_PARENTHESES} parentheses")

    def check(node: ast.AST) -> None:
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            check(node.left)
            check(node.right)
        elif isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
            check(node.operand)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
            if node.keywords:
                raise refusal
            for argument in node.args:
                check(argument)
        elif not (isinstance(node, ast.Constant) and type(node.value) in (int, float)):
            raise refusal

    try:
        body = ast.parse(expression.strip(), mode="eval").body
        check(body)
    except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
        raise refusal from error
    return lambda: _value(body)


def _value(node: Any) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp):
        return OPERATORS[type(node.op)](_value(node.operand))
    if isinstance(node, ast.Call):
        return FUNCTIONS[node.func.id](*map(_value, node.args))
    left, right = _value(node.left), _value(node.right)
    if isinstance(node.op, ast.Pow) and max(abs(left), abs(right)) > LARGEST_POWER:
        raise ValueError(f"{left} to the power of {right} is too much")
    return OPERATORS[type(node.op)](left, right)
