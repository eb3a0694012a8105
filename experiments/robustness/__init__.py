"""What drivers do when the world is not as they know it: suites, jobs, figures and a page; see `verb`.

From Python, with any driver (see `library`):

    from experiments import robustness

    results = robustness.test(driver, suite="quick")
    results.drives  # a pandas data frame, one row a drive
    results.report("robustness.html")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.robustness.library import Results as Results
    from experiments.robustness.library import test as test


def __getattr__(name: str) -> Any:
    """Import `test` and `Results` when they are asked for: they bring torch and pandas."""
    if name in ("test", "Results"):
        from experiments.robustness import library

        return getattr(library, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
