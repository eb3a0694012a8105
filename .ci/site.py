"""What `mkdocs.yml` cannot say: pages that are made from the tree, and links between docs and the rooms.

- README.md is the front page; CONTRIBUTING, SECURITY, CHANGELOG and the README of each room become pages below rooms/.
- api/ is made for the rooms: a page for each folder, with every module of it, for mkdocstrings.
- Links are written so that they work in the repository. Those that lead out of docs/ are turned to the pages made here;
  a link to a source file becomes its name. One that leads nowhere is an error.
- Entries of the navigation without a page are left out.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("policies", "envs", "agents", "experiments")
PAGES = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
LINK = re.compile(r"(?<!`)(!?)\[([^\]]*)\]\(([^)\s#]+)?(#[^)\s]*)?\)")


def made_pages() -> dict[str, str]:
    """Return the files outside docs/ that become pages: path in the repository → path in the site."""
    pages = {"README.md": "index.md"} | {name: f"rooms/{name}" for name in PAGES if (ROOT / name).is_file()}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("README.md")):
            place = path.relative_to(ROOT)
            pages[place.as_posix()] = f"rooms/{'-'.join(place.parent.parts)}.md"
    return pages


def on_config(config: Any) -> Any:
    """Leave out entries of the navigation that have no page."""
    config.nav = _present(config.nav, set(made_pages().values()))
    config.nav += [{"Reference": [{title: place} for title, place in sorted(references().items())]}]
    return config


def references() -> dict[str, str]:
    """Return the pages of the reference: name of a room's folder → path in the site."""
    return {name: f"api/{name.replace('.', '-')}.md" for name in _modules()}


def _present(entries: list[Any], made: set[str]) -> list[Any]:
    found: list[Any] = []
    for entry in entries:
        if isinstance(entry, dict):
            ((title, below),) = entry.items()
            kept = _present(below, made)
            found += [{title: kept}] if kept else []
        elif entry in made or (ROOT / "docs" / entry).is_file():
            found.append(entry)
    return found


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made, and the pictures that they and the docs show."""
    for source, place in made_pages().items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    listed = _modules()
    for name, place in references().items():
        content = "\n\n".join([f"# {name}", *(f"::: {module}" for module in listed[name])]) + "\n"
        files.append(File.generated(config, place, content=content))
    for picture in sorted((ROOT / "experiments" / "results").rglob("*.png")):
        place = f"rooms/{picture.relative_to(ROOT).as_posix()}"
        files.append(File.generated(config, place, abs_src_path=str(picture)))
    return files


def _modules() -> dict[str, list[str]]:
    """List the modules of each folder of a room; those right in the room stand under its own name."""
    found: dict[str, list[str]] = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if any(part.startswith("_") and part != "__init__" for part in parts) or "templates" in parts:
                continue
            lines = path.read_text(encoding="utf-8").splitlines()
            if path.name == "__init__.py" and len(lines) <= 1:
                continue
            name = ".".join(parts).removesuffix(".__init__")
            folder = ".".join(parts[:2]) if len(parts) > 2 and parts[1] != "__init__" else room
            found.setdefault(folder, []).append(name)
    return found


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links that lead out of docs/ to the pages made here."""
    sources = {place: source for source, place in made_pages().items()}
    here = page.file.src_uri
    source = sources.get(here, f"docs/{here}")
    if here.startswith("api/"):
        return markdown

    def turned(found: re.Match[str]) -> str:
        mark, text, target, anchor = found[1], found[2], found[3], found[4] or ""
        if target is None or "://" in target or target.startswith("mailto:"):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (ROOT / path).exists():
            raise PluginError(f"{source} links to {target}, which is not there")
        place = _place(path)
        if place is None:
            return f"`{path}`" if not mark else found[0]
        return f"{mark}[{text}]({posixpath.relpath(place, posixpath.dirname(here) or '.')}{anchor})"

    return LINK.sub(turned, markdown)


def _place(path: str) -> str | None:
    """Return where a file of the repository is in the site; None when it is not shown there."""
    pages = made_pages()
    if path in pages:
        return pages[path]
    if f"{path}/README.md" in pages:
        return pages[f"{path}/README.md"]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"rooms/{path}" if path.startswith("experiments/results/") and path.endswith(".png") else None
