"""Small deliberate breaks of a module: what can be changed in its source, and the source with one change."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

CALLS = {
    **{"min": "max", "max": "min", "mean": "median", "median": "mean", "any": "all", "all": "any", "sum": "max"},
    **{"floor": "ceil", "ceil": "floor", "sin": "cos", "cos": "sin", "argmax": "argmin", "argmin": "argmax"},
    **{"nanmean": "nanmedian", "zeros": "ones", "ones": "zeros", "zeros_like": "ones_like", "ones_like": "zeros_like"},
}
"""Functions that are taken for one another."""


ORDERLESS = ("min", "max", "minimum", "maximum", "hypot", "logaddexp", "gcd")
"""Functions whose first two arguments may as well change places."""


COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In},
}


OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult},
    **{ast.Mod: ast.Mult, ast.Pow: ast.Mult},
}


@dataclass(frozen=True)
class Break:
    """One change of one line."""

    path: str
    line: int
    was: str
    now: str
    source: str
    """The module with it."""
    last_line: int = 0
    """Last line of what was changed, in the module without it."""

    def __str__(self) -> str:
        """Say what it is."""
        return f"{self.path}:{self.line}: {self.was}  →  {self.now}"


def breaks_of(path: str, source: str) -> list[Callable[[], Break]]:
    """Return all breaks of a module, made when they are asked for."""
    tree = ast.parse(source)
    found: list[Callable[[], Break]] = []
    for index, node in enumerate(_nodes(tree)):
        for number in range(len(list(_changes(node)))):
            found.append(lambda index=index, number=number: _make(path, source, index, number))  # type: ignore[misc]
    return found


def _make(path: str, source: str, index: int, number: int) -> Break:
    tree = ast.parse(source)
    node = list(_nodes(tree))[index]
    was, line = ast.unparse(node), getattr(node, "lineno", 0)
    # Of what has a body the head alone is changed.
    last = node.test.end_lineno if isinstance(node, (ast.If, ast.IfExp)) else getattr(node, "end_lineno", 0)
    list(_changes(node))[number]()
    return Break(path, line, was[:100], ast.unparse(node)[:100], ast.unparse(tree), last or line)


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield what may be changed: no docstrings, annotations, messages or defaults of declarations."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(
                child, (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)
            ):
                continue
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue
            yield child
            yield from _nodes(child)


def _changes(node: ast.AST) -> Iterator[Callable[[], None]]:
    """Yield the ways to change a node in place."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        swapped = COMPARISONS[type(node.ops[0])]
        yield lambda: node.ops.__setitem__(0, swapped())
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in OPERATORS:
        other = OPERATORS[type(node.op)]
        yield lambda: setattr(node, "op", other())
    elif isinstance(node, ast.BoolOp):
        yield lambda: setattr(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield lambda: setattr(node, "op", ast.UAdd())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield lambda: setattr(node, "operand", ast.UnaryOp(ast.Not(), node.operand))
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield lambda: setattr(node, "value", not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        whole = node.value + 1
        yield lambda: setattr(node, "value", whole)
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        larger = node.value * 1.5 if node.value else 1.0
        yield lambda: setattr(node, "value", larger)
    elif isinstance(node, ast.If):
        yield lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.IfExp):
        yield lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in CALLS:
            field = "attr" if isinstance(node.func, ast.Attribute) else "id"
            yield lambda: setattr(node.func, field, CALLS[name])
        if len(node.args) >= 2 and name not in ORDERLESS and not any(isinstance(one, ast.Starred) for one in node.args):
            yield lambda: node.args.insert(0, node.args.pop(1))
        for keyword in list(node.keywords):
            if keyword.arg is not None:
                yield lambda keyword=keyword: node.keywords.remove(keyword)  # type: ignore[misc]
