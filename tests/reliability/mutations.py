"""Seeded damage to files, as disks, copies and editors make it, and as nobody would.

A mutation is a function of bytes and a random generator; `mutate` draws one. The same seed gives the same damage.
"""

from __future__ import annotations

import random
import re

JUNK = (
    b"",
    b"\0" * 40,
    b"NaN",
    b"1e999",
    b"-1e999",
    b"1000000000",
    b"9" * 400,
    b"[" * 1500,
    b'{"a":' * 1200,
    b"null",
    b"true",
    b'"',
    b"{",
    b"]",
    b",",
    b";",
    b"\n",
    b"\r",
    b"\xff\xd8\xff",
    b"\xfe\xff",
    b"\xff\xfe",
    b"\\ud800",
    b"\\u0000",
    b"../../../../etc/passwd",
    b"/dev/zero",
    "ä€😀".encode(),
)
"""What is put in the place of something, or between."""


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Return the content with one to three kinds of damage."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = rng.choice(KINDS)(content, rng)
    return content


def replace_part(content: bytes, rng: random.Random) -> bytes:
    """Put junk in the place of a short part."""
    start = rng.randint(0, len(content))
    stop = min(len(content), start + rng.choice((0, 1, 4, 40)))
    return content[:start] + rng.choice(JUNK) + content[stop:]


def replace_value(content: bytes, rng: random.Random) -> bytes:
    """Put junk in the place of a number, a word or a text, so that what stands around it stays whole."""
    found = list(re.finditer(rb'-?\d+(\.\d+)?|"[^"\n]{0,200}"|[A-Za-z_/]+', content[:200_000]))
    if not found:
        return replace_part(content, rng)
    hit = rng.choice(found)
    junk = rng.choice(JUNK)
    return content[: hit.start()] + (junk if rng.random() < 0.5 else b'"' + junk + b'"') + content[hit.end() :]


def cut(content: bytes, rng: random.Random) -> bytes:
    """Lose the end, or the beginning."""
    at = rng.randint(0, len(content))
    return content[:at] if rng.random() < 0.8 else content[at:]


def flip_bits(content: bytes, rng: random.Random) -> bytes:
    """Flip a few bits, mostly near the head, where formats say how large things are."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 3, 20)) if changed else 0):
        reach = len(changed) if rng.random() < 0.5 else min(len(changed), 256)
        changed[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def large_number(content: bytes, rng: random.Random) -> bytes:
    """Write a large number of four bytes over the head, where sizes stand."""
    if len(content) < 8:
        return b"\xff" * 8
    at = rng.randrange(min(len(content) - 4, 512))
    value = rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 65_500, 1 << 24))
    return content[:at] + value.to_bytes(4, rng.choice(("little", "big"))) + content[at + 4 :]


def repeat_lines(content: bytes, rng: random.Random) -> bytes:
    """Repeat, shuffle or drop lines."""
    lines = content.splitlines(keepends=True)
    if len(lines) < 2 or len(lines) > 100_000:
        return content + content
    start = rng.randrange(len(lines))
    part = lines[start : start + rng.randint(1, 20)]
    if rng.random() < 0.3:
        rng.shuffle(lines)
        return b"".join(lines)
    return b"".join(lines[:start] + (part * 3 if rng.random() < 0.5 else []) + lines[start + len(part) :])


def other_encoding(content: bytes, rng: random.Random) -> bytes:
    """Write text in another encoding, or with other line ends."""
    text = content.decode("utf-8", "replace")
    if rng.random() < 0.3:
        return text.replace("\n", "\r\n").encode()
    return text.encode(rng.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32")), "replace")


def other_marks(content: bytes, rng: random.Random) -> bytes:
    """Exchange separators and decimal marks."""
    one, other = rng.choice(((b",", b";"), (b".", b","), (b",", b"\t"), (b",", b""), (b'"', b"'")))
    return content.replace(one, other)


def empty(content: bytes, rng: random.Random) -> bytes:
    """Leave nothing, or zeros."""
    return b"" if rng.random() < 0.5 else b"\0" * min(len(content), 1 << 20)


KINDS = (
    replace_part,
    replace_part,
    replace_value,
    replace_value,
    replace_value,
    cut,
    flip_bits,
    large_number,
    repeat_lines,
    other_encoding,
    other_marks,
    empty,
)
"""All kinds, those that reach deepest more than once."""
