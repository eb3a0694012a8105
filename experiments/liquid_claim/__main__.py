"""`python -m experiments.liquid_claim`: see `experiments.liquid_claim.experiment`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from experiments.cli import guarded, parse_options, show_help
from experiments.outputs import check_outputs

PROGRAM = "python -m experiments.liquid_claim"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiment; what cannot be done as asked is one line and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return guarded("liquid_claim", lambda: _run(words))


def _run(words: list[str]) -> int:
    if show_help(PROGRAM, "experiments.liquid_claim.experiment", "LiquidClaim", words):
        return 0
    from experiments.liquid_claim import experiment as claim

    usual = claim.QUICK if "--quick" in words else claim.LiquidClaim()
    options = parse_options(claim.LiquidClaim, PROGRAM, words, default=usual)
    check_outputs(options)
    claim.run(options, shlex.join([*PROGRAM.split(), *words]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
