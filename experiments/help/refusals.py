"""What is wrong with a command line, in the words of its help: tyro speaks of Python's types.

says = in_own_words("Missing value for argument '--to'. Expected 1 values.", declared)
"""

from __future__ import annotations

import re
from collections.abc import Callable

from experiments.help.advice import did_you_mean
from experiments.help.declared import Declared, Option, typed_form
from experiments.help.page import plain_words


def in_own_words(said: str, declared: Declared) -> str:
    """Return what the parser said as this project says it; unchanged where it is about no option that is declared.

    Args:
        said: its message on one line.
        declared: the options of the command.
    """
    for pattern, rewrite in _REWRITTEN:
        found = re.fullmatch(pattern, said)
        if found is not None:
            return rewrite(found, declared) or said
    return said


def _missing(found: re.Match[str], declared: Declared) -> str | None:
    listed = f" {found[1]} "
    places = not found[1].startswith("--")  # positional arguments stand first, under the name of their type
    lacking = [
        one
        for one in declared.options
        if one.required and (f" {one.name} " in listed if one.name.startswith("--") else places)
    ]
    needs = [f"{typed_form(one)} ({_clause(one.about)})" for one in lacking]
    return f"this needs {' and '.join(needs)}." if needs else None


def _too_few(found: re.Match[str], declared: Declared) -> str | None:
    return _expected(found[1], "nothing" if found[2] == "1" else "too few values", declared)


def _not_read(found: re.Match[str], declared: Declared) -> str | None:
    values = re.search(r"\[(['\"].*?)\]|('[^']*'|\"[^\"]*\")$", found[2])
    return None if values is None else _expected(found[1], (values[1] or values[2]).replace(", ", " "), declared)


def _not_a_choice(found: re.Match[str], declared: Declared) -> str | None:
    choices = re.findall(r"'([^']*)'", found[3])
    told = _expected(found[2], repr(found[1]), declared)
    return None if told is None else told + did_you_mean(found[1], choices)


def _clause(text: str) -> str:
    words = plain_words(text)
    return words if words.endswith("...") else words.removesuffix(".")


def _expected(name: str, got: str, declared: Declared) -> str | None:
    option = _option(name, declared)
    if option is None:
        return None
    limits = f" ({option.limits})" if option.limits else ""
    return f"expected {typed_form(option)}{limits}, got {got}."


def _option(name: str, declared: Declared) -> Option | None:
    place = name.replace("_", "-").upper()
    return next((one for one in declared.options if one.name in (name, place)), None)


_REWRITTEN: tuple[tuple[str, Callable[[re.Match[str], Declared], str | None]], ...] = (
    (r"Missing from [^:]*: (.*)", _missing),
    (r"Missing value for argument '([^']*)'\. Expected (\S+) values?\.", _too_few),
    (r"Error parsing (\S+): (.*)\.", _not_read),
    (r"invalid choice '(.*)' for argument '([^']*)'\. Expected one of (.*)\.", _not_a_choice),
)
