"""The options of a verb, read from its source: nothing is imported, so help comes at once.

Importing a verb imports torch, which takes seconds. Names, types, defaults and docstrings of a dataclass stand in its
source, and `ast` finds them there: fields of base classes, nested configs with the defaults that are changed for this
verb, constants, in whichever module of ours they are. A default that is computed is not shown; its docstring says it.
What is read is held by tests to what the command line takes.

    page = read_options("experiments.record", "RecordOptions")
"""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Where the rooms lie."""
BOUNDS = {"ge": "at least", "gt": "greater than", "le": "at most", "lt": "less than"}
"""Arguments of pydantic's `Field`, in words."""
PYDANTIC = {
    **{"PositiveInt": ("int", "greater than 0"), "NonNegativeInt": ("int", "at least 0")},
    **{"PositiveFloat": ("float", "greater than 0"), "NonNegativeFloat": ("float", "at least 0")},
}
"""Pydantic's names for ranges: type and range."""
WORDS = {"int": "INT", "float": "NUMBER", "str": "TEXT", "Path": "PATH", "bool": "BOOL", "Any": "VALUE"}
"""How a type is written after an option."""


@dataclass(frozen=True)
class Option:
    """One option of a command line."""

    name: str
    """As typed: `--out`; a positional argument has no hyphens."""
    value: str
    """What follows it, in words: "PATH", "NUMBER NUMBER", "TEXT ..."; empty for a switch."""
    about: str
    """What its docstring says."""
    default: str | None
    """As text; None where there is none to show."""
    required: bool
    """Whether it must be given."""
    limits: str = ""
    """Range or choices, in words."""
    own: bool = True
    """Whether it is the verb's own and not one of a nested config."""

    @property
    def switch(self) -> bool:
        """Whether it is turned on or off and takes no value."""
        return self.value == ""


@dataclass(frozen=True)
class Declared:
    """What the source of a verb says about its options."""

    about: str
    """Docstring of the dataclass."""
    module_about: str
    """Docstring of the module."""
    options: tuple[Option, ...]
    """In the order in which they are declared, the verb's own first."""

    def names(self) -> list[str]:
        """Return what may be typed, `--no-…` of switches among it."""
        typed = [one.name for one in self.options if one.name.startswith("--")]
        return typed + [_negated(one.name) for one in self.options if one.switch]


@dataclass
class _Made:
    """A dataclass that a default makes: which, and the arguments that differ from its own defaults."""

    kind: _Class
    changed: dict[str, tuple[ast.expr, _Module]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Class:
    module: _Module
    node: ast.ClassDef


class _Module:
    """What the top level of a source file defines."""

    def __init__(self, name: str):
        path = ROOT.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        self.name = name
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.classes: dict[str, ast.ClassDef] = {}
        self.values: dict[str, ast.expr] = {}
        self.imports: dict[str, tuple[str, str]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                self.imports |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef):
                self.classes[node.name] = node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.values[node.targets[0].id] = node.value
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                self.values[node.target.id] = node.value


@cache
def _module(name: str) -> _Module:
    return _Module(name)


def _is_ours(name: str) -> bool:
    return name.split(".")[0] in ("experiments", "agents", "envs", "policies", "tests")


def read_options(module: str, kind: str, omit_prefixes: bool = False) -> Declared:
    """Read the options that a dataclass declares.

    Args:
        module: where it is, such as "experiments.record".
        kind: its name.
        omit_prefixes: whether options of nested configs go without the name of the config (`run_script`).

    Raises:
        KeyError: if the module defines no such class.
        OSError: if the module has no source.
    """
    source = _module(module)
    found = _class(source, kind)
    if found is None:
        raise KeyError(kind)
    options = _options(_Made(found), "", omit_prefixes, own=True)
    # Positional arguments first, then what must be given, then the verb's own options, then those of its configs.
    options.sort(key=lambda one: (one.name.startswith("--"), not one.required, not one.own))
    return Declared(_doc(found.node), _doc(source.tree), tuple(options))


def _doc(node: ast.Module | ast.ClassDef) -> str:
    return inspect.cleandoc(ast.get_docstring(node, clean=False) or "")


def _class(module: _Module, name: str) -> _Class | None:
    """Find a class of ours by a name used in a module; None for anything else."""
    if name in module.classes:
        return _Class(module, module.classes[name])
    if name in module.imports and _is_ours(module.imports[name][0]):
        place, original = module.imports[name]
        return _class(_module(place), original)
    return None


def _value(module: _Module, node: ast.expr) -> tuple[ast.expr, _Module]:
    """Follow names to the expression that they stand for."""
    if isinstance(node, ast.Name):
        if node.id in module.values:
            return _value(module, module.values[node.id])
        if node.id in module.imports and _is_ours(module.imports[node.id][0]):
            place, original = module.imports[node.id]
            return _value(_module(place), ast.Name(original))
    return node, module


def _made(module: _Module, node: ast.expr) -> _Made | None:
    """Return the dataclass that an expression makes: `Config(...)`, `replace(config, ...)`, or a constant like that."""
    node, module = _value(module, node)
    if not isinstance(node, ast.Call):
        return None
    changed = {word.arg: (word.value, module) for word in node.keywords if word.arg is not None}
    name = _name(node.func)
    if name == "replace" and node.args:
        base = _made(module, node.args[0])
        return None if base is None else _Made(base.kind, base.changed | changed)
    if name == "field":
        factory = next((word.value for word in node.keywords if word.arg == "default_factory"), None)
        if isinstance(factory, ast.Lambda):
            return _made(module, factory.body)
        found = _class(module, _name(factory)) if factory is not None else None
        return _Made(found) if found is not None else None
    found = _class(module, name)
    if found is None:
        return None
    given = {name: (value, module) for (name, _), value in zip(_fields(found), node.args, strict=False)}
    return _Made(found, given | changed)


def _name(node: ast.expr) -> str:
    """Return the last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _fields(kind: _Class) -> list[tuple[str, tuple[ast.AnnAssign, str, _Module]]]:
    """List the fields of a dataclass, those of its base classes first: name, declaration, docstring and where."""
    found: dict[str, tuple[ast.AnnAssign, str, _Module]] = {}
    for base in kind.node.bases:
        above = _class(kind.module, _name(base))
        if above is not None:
            found |= dict(_fields(above))
    listed = {
        match[1]: " ".join(match[2].split())
        for match in re.finditer(r"^    (\w+): (.*(?:\n        .*)*)", _doc(kind.node), re.M)
    }  # an Attributes section
    body = kind.node.body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if "ClassVar" in ast.unparse(node.annotation):
                continue
            text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and after.value.value
            about = " ".join(str(text).split()) if text else listed.get(node.target.id, "")
            found[node.target.id] = node, about, kind.module
    return list(found.items())


@dataclass
class _Kind:
    """What an annotation says."""

    value: str = "VALUE"
    limits: list[str] = field(default_factory=list)
    nested: _Class | None = None
    optional: bool = False
    positional: bool = False
    name: str | None = None
    parameters: str = ""


def _kind(module: _Module, node: ast.expr) -> _Kind:
    """Read an annotation."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.parse(node.value, mode="eval").body
    if isinstance(node, ast.BinOp):
        parts = [part for part in _union(node) if not (isinstance(part, ast.Constant) and part.value is None)]
        kinds = [_kind(module, part) for part in parts]
        values = list(dict.fromkeys(kind.value for kind in kinds))
        # `TEXT | TEXT ...` is `TEXT ...`, which says both.
        values = [value for value in values if f"{value} ..." not in values]
        limits = [limit for kind in kinds for limit in kind.limits]
        nested = next((kind.nested for kind in kinds if kind.nested is not None), None)
        return _Kind(" or ".join(values), limits, nested, optional=len(parts) < len(_union(node)))
    if isinstance(node, ast.Subscript):
        return _subscript(module, node)
    name = _name(node)
    if name in WORDS:
        return _Kind(WORDS[name])
    if name in PYDANTIC:
        return _Kind(WORDS[PYDANTIC[name][0]], [PYDANTIC[name][1]])
    nested = _class(module, name)
    if nested is not None:
        return _Kind(nested=nested)
    meant, where = _value(module, node)
    return _kind(where, meant) if meant is not node else _Kind()


def _subscript(module: _Module, node: ast.Subscript) -> _Kind:
    """Read an annotation with brackets."""
    outer = _name(node.value)
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if outer == "Literal":
        return _Kind("NAME", ["one of " + ", ".join(_text(module, one) for one in inner)])
    if outer in ("Positional", "Annotated"):
        kind = _kind(module, inner[0])
        kind.positional |= outer == "Positional"
        for note in inner[1:]:
            note, where = _value(module, note)
            if not isinstance(note, ast.Call):
                kind.positional |= _name(note) == "Positional"
                continue
            words = {word.arg: word.value for word in note.keywords if word.arg is not None}
            if _name(note.func) == "arg":
                if isinstance(words.get("name"), ast.Constant):
                    kind.name = words["name"].value  # type: ignore[attr-defined]
                if isinstance(words.get("metavar"), ast.Constant):
                    kind.value = words["metavar"].value  # type: ignore[attr-defined]
            elif _name(note.func) == "Field":
                kind.limits += [f"{BOUNDS[key]} {_text(where, words[key])}" for key in BOUNDS if key in words]
        return kind
    kinds = [_kind(module, one) for one in inner if not (isinstance(one, ast.Constant) and one.value is ...)]
    limits = list(dict.fromkeys(limit for kind in kinds for limit in kind.limits))
    if outer in ("tuple", "Tuple") and len(kinds) == len(inner):
        return _Kind(" ".join(kind.value for kind in kinds), limits)
    if outer in ("dict", "Mapping", "Dict"):
        return _Kind("NAME VALUE ...", limits)
    return _Kind(f"{kinds[0].value} ..." if kinds else "VALUE ...", limits)


def _union(node: ast.expr) -> list[ast.expr]:
    return [*_union(node.left), *_union(node.right)] if isinstance(node, ast.BinOp) else [node]


def _options(made: _Made, prefix: str, omit_prefixes: bool, own: bool) -> list[Option]:
    """List the options of a dataclass and of those within it."""
    options: list[Option] = []
    for name, (node, about, module) in _fields(made.kind):
        kind = _kind(module, node.annotation)
        default = made.changed.get(name, None if node.value is None else (node.value, module))
        typed = name.replace("_", "-") if kind.name is None else kind.name
        inner = None if default is None else _made(default[1], default[0])
        if kind.nested is not None and not kind.optional:
            below = prefix if omit_prefixes or not typed else f"{prefix}{typed}."
            options += _options(inner or _Made(kind.nested), below, omit_prefixes, own=False)
            continue
        shown = None if default is None else _text(default[1], default[0])
        value = "" if kind.value == "BOOL" and default is not None else kind.value
        label = f"{prefix}{typed}" if kind.positional else f"--{prefix}{typed}"
        label = label.upper() if kind.positional else label
        required = default is None
        options.append(Option(label, value, about, shown or None, required, ", ".join(kind.limits), own))
    return options


def _text(module: _Module, node: ast.expr) -> str:
    """Write a default as a person would type it; "" for None and what is empty."""
    node, module = _value(module, node)
    if isinstance(node, ast.Constant):
        return "" if node.value is None else str(node.value)
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return " ".join(_text(module, one) for one in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return f"-{_text(module, node.operand)}"
    if isinstance(node, ast.Call):
        if _name(node.func) == "Path" and node.args:
            return "/".join(_text(module, one) for one in node.args)
        words = {word.arg: word.value for word in node.keywords}
        return _text(module, words["default"]) if "default" in words else ""
    if isinstance(node, (ast.BinOp, ast.Attribute, ast.Name)):
        return ast.unparse(node)
    return ""


def _negated(name: str) -> str:
    """Return `--no-NAME` of a switch, with the word before the last part as tyro writes it."""
    head, dot, last = name.removeprefix("--").rpartition(".")
    return f"--{head}{dot}no-{last}"


def typed_form(option: Option) -> str:
    """Write an option as it is typed: `--out PATH`, or `--films, --no-films` for a switch that is on."""
    if option.switch:
        return f"{option.name}, {_negated(option.name)}" if option.default == "True" else option.name
    return f"{option.name} {option.value}" if option.name.startswith("--") else option.name


def default_words(option: Option) -> str | None:
    """Return the default as it is shown; None where there is nothing to say."""
    if option.switch:
        return "on" if option.default == "True" else None
    return option.default
