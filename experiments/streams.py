"""Standard output and standard error on which printing never fails.

A command that has worked for an hour must not lose its results to a screen that cannot show "²", to a pipe that nobody
reads, or to a full disk behind `>`. Inside `lasting_streams` whatever prints (print, rich, a library) writes to a
`LastingStream`: characters that the encoding lacks are spelt in ASCII, and after a first failure the rest is dropped.
What went wrong is kept for the exit code.

    with lasting_streams() as (out, err):
        ...
    if out.failure is not None: ...
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

SPELLED = {
    **{"−": "-", "–": "-", "—": "-", "‐": "-", "…": "...", "×": "x", "·": "*", "±": "+-", "≥": ">=", "≤": "<="},
    **{"≈": "~", "→": "->", "←": "<-", "↑": "^", "↓": "v", "²": "^2", "³": "^3", "½": "1/2", "°": " deg", "µ": "u"},
    **{"μ": "mu", "σ": "sigma", "Δ": "d", "τ": "tau", "κ": "kappa", "α": "alpha", "β": "beta", "γ": "gamma"},
    **{"λ": "lambda", "ε": "epsilon", "θ": "theta", "δ": "delta", "π": "pi", "∞": "inf", "√": "sqrt", "∈": "in"},
    **{"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "•": "*", "✓": "ok", "✗": "x", "\u00a0": " ", "\u202f": " "},
    **{"─": "-", "━": "-", "│": "|", "┃": "|", "╭": "+", "╮": "+", "╰": "+", "╯": "+", "█": "#", "▁": "_"},
}
"""How characters are written where the encoding has none; any other becomes a question mark."""


def spell(text: str, encoding: str) -> str:
    """Write text with the characters of an encoding alone.

    Args:
        text: anything.
        encoding: a codec's name, such as "ascii" or "cp1252".
    """
    return "".join(_spell_one(character, encoding) for character in text)


def _spell_one(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
        return character
    except UnicodeEncodeError:
        return SPELLED.get(character, "?")


class LastingStream:
    """A text stream that takes whatever is written; everything else is the wrapped stream's own.

    Attributes:
        failure: the first error of the stream that was printed to, None as long as it takes text.
    """

    def __init__(self, stream: Any):
        """Wrap a stream; None stands for one that was closed before the process began."""
        self._stream = stream
        self.failure: OSError | ValueError | None = None

    def write(self, text: str) -> int:
        """Write; returns the number of characters given, written or not."""
        if self._stream is not None and self.failure is None:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self._attempt(self._stream.write, spell(text, self.encoding))
            except (OSError, ValueError) as error:
                self._fail(error)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each of some lines."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush, if there is still something to flush to."""
        if self._stream is not None and self.failure is None:
            self._attempt(self._stream.flush)

    def isatty(self) -> bool:
        """Whether a terminal shows it; False for a stream that is closed."""
        try:
            return self._stream is not None and bool(self._stream.isatty())
        except ValueError:
            return False

    @property
    def encoding(self) -> str:
        """Name of the codec; UTF-8 where the stream does not say."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def __getattr__(self, name: str) -> Any:
        if self._stream is None:
            raise AttributeError(name)
        return getattr(self._stream, name)

    def _attempt(self, write: Any, *arguments: str) -> None:
        try:
            write(*arguments)
        except (OSError, ValueError) as error:
            self._fail(error)

    def _fail(self, error: OSError | ValueError) -> None:
        """Remember the error, and let what is still in the stream's buffer go nowhere: Python flushes it at exit."""
        self.failure = error
        with contextlib.suppress(OSError, ValueError, AttributeError):
            descriptor = self._stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


@contextlib.contextmanager
def lasting_streams() -> Iterator[tuple[LastingStream, LastingStream]]:
    """Put lasting streams in the place of `sys.stdout` and `sys.stderr`, and flush them at the end.

    Yields:
        Both; their `failure` is final once the context is left.
    """
    before = sys.stdout, sys.stderr
    out, err = LastingStream(before[0]), LastingStream(before[1])
    sys.stdout, sys.stderr = out, err
    try:
        yield out, err
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before
