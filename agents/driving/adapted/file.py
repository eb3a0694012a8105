"""`adapted.json` of a run: corrections for worlds in which the policy beside it, in `policy`, steers wrongly.

write_adapted(Path("runs/adapt"), corrections)
directory, corrections = read_adapted("runs/adapt/adapted.json")
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from agents.driving.adapted.driver import Correction
from agents.runs.files import write_json
from agents.runs.reading import one_line, read_object
from policies.checkpoint import ADAPTED, read_config

FORMAT = "wormwheel-adapted-driver"
FORMAT_VERSION = 1
POLICY = "policy"
"""Name of the policy's directory beside the file."""


def write_adapted(directory: Path, corrections: Sequence[Correction]) -> Path:
    """Write the corrections of the policy in `directory/policy`; returns the file."""
    path = directory / ADAPTED
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "weights_sha256": read_config(directory / POLICY)["weights_sha256"],
        "corrections": [one.to_json() for one in corrections],
    }
    write_json(path, content)
    return path


def read_adapted(path: str | os.PathLike[str]) -> tuple[Path, tuple[Correction, ...]]:
    """Read corrections.

    Args:
        path: the file.

    Returns:
        Directory of the policy, and its corrections.

    Raises:
        ValueError: if the file is damaged, newer than this program, or not of the policy beside it.
        OSError: if it cannot be read.
    """
    path = Path(path)
    content = read_object(path)
    if content.get("format") != FORMAT:
        raise ValueError(f"{path} is no driver: `wormwheel adapt` writes {ADAPTED} with format {FORMAT!r}.")
    version = content.get("format_version")
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {one_line(version)}, this program reads up to {FORMAT_VERSION}: update it."
        )
    policy = path.parent / POLICY
    if read_config(policy).get("weights_sha256") != content.get("weights_sha256"):
        raise ValueError(f"{path} was written for another policy than {policy}: restore the one that belongs to it.")
    try:
        corrections = tuple(Correction.from_json(one) for one in content["corrections"])
        if not corrections:
            raise ValueError("it has no correction")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} is corrupt ({one_line(error)}): adapt again or restore a copy.") from error
    return policy, corrections
