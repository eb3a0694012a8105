"""Files that a verb may replace: those that a verb has made, which carry a mark.

Whatever is written by a name that a person has given (a film, a picture, a page, JSON) says in its metadata that it was
made here. A file without that mark is somebody else's, and is refused before work starts.

    check_ours(options.out)
"""

from __future__ import annotations

import mmap
from pathlib import Path

from agents.runs.reading import check_regular

MARK = "Made by Wormwheel"
"""In the metadata of films and pictures, in pages and texts."""
MARKS = (
    MARK.encode(),
    b"wormwheel-driver",  # an exported policy as ONNX
    b"exported Wormwheel policy",  # the program beside it
)
"""What files of ours hold, by kind."""
RESULTS = (b'"wormwheel": "', b'"figures": ')
"""What results as JSON hold: versions and figures. A run's config.json has versions too, and is no result."""


def check_ours(*paths: Path | None) -> None:
    """Check that files which are to be written are not there yet, empty, or of our own making.

    Args:
        *paths: names that were given; devices and pipes pass, and None.

    Raises:
        ValueError: if there is a file of somebody else's.
    """
    for path in paths:
        if path is not None and path.is_file() and not is_ours(path):
            raise ValueError(
                f"{path} was not made by Wormwheel and is not written over: move it, or give another name."
            )


def is_ours(path: Path) -> bool:
    """Whether a file is empty or carries a mark."""
    if check_regular(path) == 0:
        return True
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(mark) >= 0 for mark in MARKS) or all(content.find(mark) >= 0 for mark in RESULTS)
