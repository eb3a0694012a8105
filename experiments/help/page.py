"""The help of a verb as text: two examples and the options that matter, or all of them by `--help-all`.

print(help_page("record", "experiments.record", "RecordOptions", everything=False, width=80))
"""

from __future__ import annotations

import re
import textwrap

from experiments.help.declared import Declared, Option, default_words, read_options, typed_form
from experiments.help.main_options import MAIN, MOST

LABEL = 26
"""Columns for an option and its value; what is longer gets a line of its own."""
LEAST, MOST_COLUMNS = 40, 100
"""Narrowest and widest page."""


def help_page(program: str, module: str, kind: str, everything: bool, width: int, omit_prefixes: bool = False) -> str:
    """Lay out the help of a verb or of a module that is run by `python -m`.

    Args:
        program: how it is called, such as "wormwheel record".
        module: where its options are declared.
        kind: name of their dataclass.
        everything: whether to show all options, or those that matter.
        width: columns of the screen.
        omit_prefixes: as in `read_options`.
    """
    declared = read_options(module, kind, omit_prefixes)
    verb = program.removeprefix("wormwheel ")
    shown = list(declared.options) if everything else main_options(verb, declared)
    width = min(max(width, LEAST), MOST_COLUMNS)
    blocks = [f"usage: {program} {_usage(declared)}", _wrap(declared.about, width)]
    if not everything:
        examples = examples_of(verb, program, declared)
        if examples:
            blocks.append("\n".join(["Examples:", *(_command(line, width) for line in examples)]))
    for title, group in (("Arguments", False), ("Options", True)):
        lines = [_entry(one, width) for one in shown if one.name.startswith("--") is group]
        if lines:
            blocks.append("\n".join([f"{title}:", *lines]))
    rest = len(declared.options) - len(shown)
    if rest:
        blocks.append(f"{rest} more options: {program} --help-all")
    return "\n\n".join(blocks)


def main_options(verb: str, declared: Declared) -> list[Option]:
    """Choose the options that matter, those that must be given and `--json` always among them."""
    by_name = {one.name.removeprefix("--"): one for one in declared.options}
    if verb in MAIN:
        chosen = [by_name[name] for name in MAIN[verb].options if name in by_name]
    else:
        chosen = [one for one in declared.options if one.own][:MOST]
    always = [one for one in declared.options if one.required or one.name == "--json"]
    return chosen + [one for one in always if one not in chosen]


def examples_of(verb: str, program: str, declared: Declared) -> list[str]:
    """Return at most two commands that show the verb."""
    if verb in MAIN:
        return list(MAIN[verb].examples)
    lines = [" ".join(line.split()) for line in declared.module_about.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith(f"{program} ")][:2]


def _usage(declared: Declared) -> str:
    places = [one for one in declared.options if not one.name.startswith("--")]
    needed = [one for one in declared.options if one.name.startswith("--") and one.required]
    words = [one.name if one.required else f"[{one.name}]" for one in places]
    return " ".join([*words, *(typed_form(one) for one in needed), "[OPTIONS]"])


def _command(line: str, width: int) -> str:
    """Write a command that may be pasted; one that is too long goes on after a backslash."""
    lines = textwrap.wrap(line, width - 8, break_on_hyphens=False, break_long_words=False)
    return "  " + " \\\n      ".join(lines)


def _entry(option: Option, width: int) -> str:
    """Write one option: what to type, what it does, its range and default."""
    notes = [option.limits] if option.limits else []
    default = default_words(option)
    if default is not None and default != "":
        notes.append(f"default {default}")
    if option.required:
        notes.append("required")
    text = plain_words(option.about) + (f" ({'; '.join(notes)})" if notes else "")
    label, gap = f"  {typed_form(option)}", " " * (LABEL + 2)
    body = textwrap.wrap(text, max(width - len(gap), 20), break_on_hyphens=False) or [""]
    first = [f"{label:<{len(gap)}}{body.pop(0)}"] if len(label) <= LABEL else [label]
    return "\n".join([*first, *(gap + line for line in body)])


def _wrap(text: str, width: int) -> str:
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    return "\n\n".join(textwrap.fill(plain_words(part), width, break_on_hyphens=False) for part in paragraphs)


def plain_words(text: str) -> str:
    """Return a docstring as a sentence: without the marks that only a renderer of docstrings reads."""
    text = re.sub(r":\w+:`~?([^`]*)`", r"\1", text)
    return re.sub(r"``?([^`]+?)``?", r"\1", text)
