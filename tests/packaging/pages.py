"""The pages of the project and what stands in them: code blocks, commands, links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w*)(?: title=\"([^\"]*)\")?\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    title: str
    text: str
    section: str


def pages() -> list[Path]:
    """Every page of the project, relative to its root: those at the top, in docs/ and in the rooms."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")]
    for room in ("policies", "envs", "agents", "experiments"):
        found += (ROOT / room).rglob("*.md")
    return sorted(path.relative_to(ROOT) for path in found)


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        heads = re.findall(r"^## (.*)$", BLOCK.sub("", text[: match.start()]), re.M)
        found.append(Block(str(page), match[1], match[2] or "", match[3], heads[-1] if heads else ""))
    return found


def commands(page: Path) -> list[str]:
    """The commands of ours on a page: lines of blocks without a language, and inline code."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = [
        line.split("  #")[0].split(" #")[0].strip()
        for block in blocks(page)
        if block.language in ("", "sh", "bash")
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    lines += [" ".join(found.split()) for found in re.findall(r"(?<!`)`([^`]+)`(?!`)", BLOCK.sub("", text))]
    return [line for line in lines if re.match(r"(wormwheel|python -m experiments\.\S+)( |$)", line)]
