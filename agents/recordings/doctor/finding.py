"""One thing that the doctor found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """Something to know before a recording is learnt from."""

    about: str
    """Kind, such as "sign", "lag", "clock", "leak", "labels" or "offset"."""
    fault: bool
    """True for what should be mended first, False for what is only worth knowing."""
    what: str
    """What was found, with its figures."""
    do: str
    """What to do about it."""
    figures: dict[str, Any] = field(default_factory=dict)
    """JSON values for `fix` and for programs."""

    @property
    def line(self) -> str:
        """All of it on one line."""
        return f"{self.about}: {self.what}. {self.do[:1].upper()}{self.do[1:]}."

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {"about": self.about, "fault": self.fault, "what": self.what, "do": self.do, "figures": self.figures}
