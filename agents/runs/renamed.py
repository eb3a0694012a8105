"""Options that were called otherwise when a run directory or a learner was written.

Whatever reads options from disk passes them through `with_current_names`, so older runs resume and load.
"""

from __future__ import annotations

from typing import Any

RENAMED = {
    "leash": "imitator_kl_coef",
    "leash_end": "imitator_kl_coef_end",
    "retry": "replay_failed_prob",
}
"""Present names by former ones."""


MOVED = {
    "nominal_period_s": "reading",
    "side_cameras": "reading",
}
"""Options of a verb that belong to a group now: the group by the option."""

SWITCHES = ("bfloat16",)
"""Options that are words now, "on" and "off", and were switches."""


def options_as_they_are_now(saved: dict[str, Any]) -> dict[str, Any]:
    """Return the saved options of a verb under their present names, in their present groups."""
    options: dict[str, Any] = with_current_names(saved)
    for name, group in MOVED.items():
        if name in options and isinstance(options.setdefault(group, {}), dict):
            options[group].setdefault(name, options.pop(name))
    return options


def with_current_names(saved: Any) -> Any:
    """Return JSON values with every renamed key, at any depth of objects, under its present name."""
    if isinstance(saved, dict):
        return {RENAMED.get(name, name): _as_it_is_now(name, value) for name, value in saved.items()}
    return saved


def _as_it_is_now(name: str, value: Any) -> Any:
    if name in SWITCHES and isinstance(value, bool):
        return "on" if value else "off"
    return with_current_names(value)
