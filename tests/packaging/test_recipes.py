"""The recipes of CONTRIBUTING.md, followed as they stand there in a copy of the tree."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.pages import ROOT, Block, blocks

RECIPES = ("Add a core in five steps", "Add a perturbation in five steps", "Add a recording format in five steps")


def copy_tree(place: Path) -> None:
    for name in ("agents", "envs", "experiments", "policies", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(ROOT / name, place / name, ignore=ignored)
    for name in ("pyproject.toml", "wormwheel.py"):
        shutil.copyfile(ROOT / name, place / name)


def apply(block: Block, place: Path) -> None:
    """Write the file that a block is, or add the lines of a diff behind the lines that it shows."""
    path = place / block.title
    if block.language != "diff":
        assert not path.exists(), f"{block.title} is there already"
        path.write_text(block.text, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    for hunk in block.text.split("@@\n"):
        lines = hunk.splitlines()
        shown = "\n".join(line[1:] for line in lines if line.startswith(" ")) + "\n"
        added = "\n".join(line[1:] for line in lines if line.startswith("+")) + "\n"
        assert text.count(f"\n{shown}") == 1, f"{block.title} has no line {shown!r}"
        text = text.replace(f"\n{shown}", f"\n{shown}{added}")
    path.write_text(text, encoding="utf-8")


# In the copy of the tree kernels are compiled again, which takes half a minute: the first two are thorough.
@pytest.mark.parametrize(
    "recipe", [*(pytest.param(one, marks=pytest.mark.thorough) for one in RECIPES[:2]), RECIPES[2]]
)
def test_the_recipe_works_as_it_stands(recipe: str, tmp_path: Path):
    steps = [block for block in blocks(Path("CONTRIBUTING.md")) if block.section == recipe]
    assert any(block.title for block in steps) and any(block.language == "sh" for block in steps)
    copy_tree(tmp_path)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": ""}
    for block in steps:
        if block.title:
            apply(block, tmp_path)
            continue
        for line in block.text.splitlines() if block.language == "sh" else ():
            command = [sys.executable, *shlex.split(line)[1:]]
            ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
            assert ran.returncode == 0, f"{line}\n{ran.stdout}\n{ran.stderr}"
            if "pytest" in line:
                assert " passed" in ran.stdout and " no tests ran" not in ran.stdout
            if "info cores leaky" in line:
                assert "Units that follow a mix of the features" in " ".join(ran.stdout.split())


def test_the_recipes_are_the_ones_that_are_there():
    sections = {block.section for block in blocks(Path("CONTRIBUTING.md"))}
    assert sections == set(RECIPES)
