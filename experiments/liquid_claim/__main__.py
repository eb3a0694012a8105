"""`python -m experiments.liquid_claim`: see `experiments.liquid_claim.experiment`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from experiments.cli import describe, parse_options
from experiments.liquid_claim import experiment as claim

PROGRAM = "python -m experiments.liquid_claim"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiment; what cannot be done as asked is one line and exit code 2."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    usual = claim.QUICK if "--quick" in words else claim.LiquidClaim()
    try:
        options = parse_options(claim.LiquidClaim, PROGRAM, words, default=usual)
        if options is not None:
            claim.run(options, shlex.join([*PROGRAM.split(), *words]))
    except (ValueError, OSError, ImportError) as error:
        print(f"liquid_claim: {describe(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("liquid_claim: stopped by Ctrl-C; what was complete is kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
