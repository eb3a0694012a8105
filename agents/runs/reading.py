"""Reading what may be damaged, so that nothing can hang, flood memory, or end in anything but one clear line.

Pipes and devices are refused before they are opened, sizes are checked before bytes are read, and whatever a parser
lets out becomes a `DamagedFile` whose message names the file.

    plan = read_object(Path("runs/a/plan.json"))
    values, tensors = read_tensors(Path("runs/a/last/learner.safetensors"), "learner")
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MOST_BYTES = 256 << 20
"""Longest text or picture that is read whole, bytes."""
MOST_TENSOR_BYTES = 4 << 30
"""Largest file of tensors that is read, bytes."""


class DamagedFile(ValueError):
    """A file that cannot be what it should be; the message is one line and names it."""


def possible_name(name: str) -> bool:
    """Say whether a file could have this name: no zero byte, no lone surrogate, not too long."""
    try:
        return bool(name) and "\0" not in name and len(os.fsencode(name)) < 4096
    except UnicodeEncodeError:
        return False


def one_line(thing: Any) -> str:
    """Return a value or an error's message on one line that any output can show; the kind of what has no words."""
    text = " ".join(str(thing).split()).encode("utf-8", "replace").decode("utf-8")
    return text[:300] or type(thing).__name__


def check_regular(path: Path, most: int | None = None) -> int:
    """Return a file's size in bytes after checking that it is a file and not too large.

    Args:
        path: The file; links are followed.
        most: Largest size, bytes; any when None.

    Raises:
        FileNotFoundError: if it is missing.
        DamagedFile: if it is a directory, a pipe or a device, or too large.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        kind = "a directory" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        raise DamagedFile(f"{path} should be a file, it is {kind}; give or copy the file itself.")
    if most is not None and found.st_size > most:
        raise DamagedFile(
            f"{path} has {found.st_size:,} bytes, at most {most:,} were expected; split it or copy it again."
        )
    return found.st_size


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Read a whole file of at most `most` bytes."""
    check_regular(path, most)
    with path.open("rb") as file:
        return file.read(most)


def parse_json(content: str | bytes, name: str | os.PathLike[str]) -> Any:
    """Parse JSON text.

    Args:
        content: The text.
        name: Whose it is, for the message.

    Raises:
        DamagedFile: if it is no JSON, nested too deep, or holds numbers too long to be any.
    """
    try:
        text = content.decode("utf-8-sig", "replace") if isinstance(content, bytes) else content
        return json.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:
        raise DamagedFile(f"{name} should hold JSON and is damaged ({one_line(error)}); copy it again.") from None


def read_json(path: Path, most: int = 64 << 20) -> Any:
    """Read a JSON file; see `parse_json`."""
    return parse_json(read_bytes(path, most), path)


def read_object(path: Path, most: int = 64 << 20) -> dict[str, Any]:
    """Read a JSON file that holds an object; see `parse_json`."""
    content = read_json(path, most)
    if not isinstance(content, dict):
        raise DamagedFile(f"{path} should hold a JSON object, it holds {type(content).__name__}; copy it again.")
    return content


def read_tensors(path: Path, key: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read a safetensors file whose header holds a JSON object.

    Args:
        path: the file.
        key: of the object in the header.

    Returns:
        The object, and the tensors by name.

    Raises:
        FileNotFoundError: if there is no file.
        DamagedFile: if it is damaged.
    """
    import safetensors

    check_regular(path, MOST_TENSOR_BYTES)
    with damaged(path), safetensors.safe_open(path, framework="pt") as file:
        values = parse_json((file.metadata() or {}).get(key, ""), path)
        if not isinstance(values, dict):
            raise DamagedFile(f"{path} should hold a JSON object {key!r} in its header; copy it again.")
        return values, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextmanager
def damaged(path: Path, advice: str = "copy it again") -> Iterator[None]:
    """Turn whatever wrong content makes the code of the block raise into a `DamagedFile` that names the file.

    For blocks that take apart what was read: no value in a file is known to be of its type.
    """
    try:
        yield
    except (DamagedFile, FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        words = f"{type(error).__name__}: " if isinstance(error, (KeyError, IndexError, AttributeError)) else ""
        raise DamagedFile(f"{path} is damaged ({words}{one_line(error)}): {advice}.") from error
