"""What the pages say is so: links lead somewhere, imports exist, commands are taken, examples run."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from experiments import cli
from experiments.help.declared import read_options
from tests.packaging.pages import BLOCK, ROOT, blocks, commands, pages

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
ROOMS = ("policies", "envs", "agents", "experiments")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as sites make them."""
    text = BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
    heads = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", head.lower()).strip()) for head in heads}


NOT_OURS = {"driver.py", "ros2_node.py", "manage.py"}
"""What `wormwheel export` writes, and the car's own program."""


@pytest.mark.parametrize("page", pages(), ids=str)
def test_links_lead_somewhere(page: Path):
    text = BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        place = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert place.exists(), f"{page} links to {target}"
        assert ROOT in (place, *place.parents), f"{page} links out of the project: {target}"
        if anchor:
            assert anchor in anchors(place.relative_to(ROOT)), f"{page} links to {target}"


def test_the_readme_is_one_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_the_readme_names_every_extra():
    (listed,) = re.findall(r"^Extras .*?(?=\n\n)", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project.optional-dependencies]")[1]
    extras = re.findall(r"^(\w+) = \[", declared.split("\n[")[0], re.M)
    assert len(extras) > 10 and all(f"`{name}`" in listed for name in extras)


@pytest.mark.parametrize("page", pages(), ids=str)
def test_what_is_imported_is_there(page: Path):
    for block in blocks(page):
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ROOMS:
                if node.module in ("policies.cores.leaky", "envs.perturbations.families.tint"):
                    continue  # made by a recipe
                if importlib.util.find_spec(node.module) is None:
                    pytest.fail(f"{page}: there is no module {node.module}")
                module = importlib.import_module(node.module)
                for alias in node.names:
                    below = (
                        importlib.util.find_spec(f"{node.module}.{alias.name}") if hasattr(module, "__path__") else None
                    )
                    assert hasattr(module, alias.name) or below, f"{page}: {node.module} has no {alias.name}"


@pytest.mark.parametrize("page", pages(), ids=str)
def test_paths_of_files_are_those_of_the_tree(page: Path):
    """`policies/cores/ltc.py` must be a file; `lens.py` in the README of a room may be below that room."""
    if page.name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        return
    text = BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
    for name in set(re.findall(r"`((?:[\w.]+/)*[\w*]+\.py)`", text)) - NOT_OURS:
        below = (ROOT / page).parent.rglob(name) if page.name == "README.md" and "/" not in name else ()
        near = [(ROOT / page).parent, ROOT]
        assert any(list(place.glob(name)) for place in near) or any(below), f"{page} names {name}"
    for name in re.findall(r"`((?:policies|envs|agents|experiments|tests)/[\w/]+)/?`", text):
        assert (ROOT / name).exists() or (ROOT / f"{name}.py").exists(), f"{page} names {name}"


@pytest.mark.parametrize("page", [page for page in pages() if commands(page)], ids=str)
def test_commands_name_verbs_and_options_that_there_are(page: Path):
    for command in commands(page):
        words = shlex.split(command.replace("…", ""))
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        if words[0] == "wormwheel":
            name = next((" ".join(words[1 : 1 + n]) for n in (2, 1) if " ".join(words[1 : 1 + n]) in cli.VERBS), None)
            if name is None:
                assert len(words) == 1 or words[1].startswith("--") or words[1] in ("train", "VERB"), (
                    f"{page}: {command}"
                )
                continue
            verb = cli.VERBS[name]
            known = {*read_options(verb.module, verb.options).names(), "--help", "--help-all"}
        else:
            known = set(script_options(words[2]))
        assert set(options) <= known, f"{page}: {command}: {sorted(set(options) - known)}"


def script_options(module: str) -> list[str]:
    """The options of a module that is run by `python -m`: those of every dataclass that it gives to `run_script`."""
    assert importlib.util.find_spec(module) is not None, f"there is no module {module}"
    place = ROOT.joinpath(*module.split("."))
    if module == "experiments.cli":
        return [option for verb in cli.VERBS.values() for option in read_options(verb.module, verb.options).names()]
    files = [place.with_suffix(".py")] if place.with_suffix(".py").is_file() else sorted(place.glob("*.py"))
    found = ["--help", "--help-all"]
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imports = {
            alias.name: node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "run_script" and node.args:
                kind = getattr(node.args[0], "id", "")
                home = imports.get(kind) or ".".join(path.relative_to(ROOT).with_suffix("").parts)
                if kind:
                    found += read_options(home, kind, omit_prefixes=True).names()
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "show_help":
                home, kind = (getattr(word, "value", None) for word in node.args[1:3])
                if home and kind:
                    found += read_options(home, kind).names()
    assert len(found) > 2, f"{module} has no options"
    return found


RUN = [
    block for page in pages() if page.name != "CONTRIBUTING.md" for block in blocks(page) if block.language == "python"
]


@pytest.mark.parametrize("block", RUN, ids=lambda block: f"{block.page}-{block.section or 'top'}")
def test_examples_run(block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    """Every Python block of a page runs as it stands, in a folder with what the page says is there."""
    text = block.text
    if "load_policy(" in text or "runs/" in text:
        made = request.getfixturevalue("small_policy")
        text = re.sub(r'"runs/[\w/]+"', repr(str(made)), text)
    if "TUB" in text:
        from tests.experiments.verbs import write_tub

        text = text.replace('"TUB"', repr(str(write_tub(tmp_path / "tub"))))
    text = text.replace('vehicle="bullet"', 'vehicle="bicycle"')
    monkeypatch.chdir(tmp_path)
    exec(compile(text, block.page, "exec"), {"__name__": "example"})


@pytest.fixture(scope="module")
def small_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A driver of random weights."""
    from policies.checkpoint import save_policy
    from policies.policy import DrivingPolicy, PolicyConfig

    path = tmp_path_factory.mktemp("policy") / "policy"
    save_policy(DrivingPolicy.create(PolicyConfig(core="gru", core_options={"hidden_size": 8})), path)
    return path
