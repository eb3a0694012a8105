"""Modules that are run by `python -m`: their command line, told and failing as that of `wormwheel`.

if __name__ == "__main__":
run_script(Options, run)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

from experiments.cli import guarded, parse_options

Options = TypeVar("Options")


def run_script(
    kind: type[Options],
    run: Callable[[Options], Any],
    program: str | None = None,
    arguments: Sequence[str] | None = None,
    description: str | None = None,
) -> None:
    """Read the command line, run, and leave; what cannot be done as asked is one line on standard error.

    Args:
        kind: dataclass of the options; the names of nested ones are left out of theirs.
        run: takes the options.
        program: what it is called by, such as "python -m experiments.tasks.xor_stream"; that of the module that the
            process was started with when None.
        arguments: what follows; those of the process when None.
        description: text for --help; the docstring of `kind` when None.

    Raises:
        SystemExit: always; the code is that of `experiments.cli.main`.
    """
    called = program or _started()
    words = list(sys.argv[1:] if arguments is None else arguments)
    more = {} if description is None else {"description": description}

    def work() -> int:
        options = parse_options(kind, called, words, config=(tyro.conf.OmitArgPrefixes,), **more)
        if options is not None:
            run(options)
        return 0

    sys.exit(guarded(called.split()[-1].rpartition(".")[2], work))


def _started() -> str:
    """What the process was started by."""
    spec = sys.modules["__main__"].__spec__
    return f"python -m {spec.name}" if spec is not None else f"python {os.path.basename(sys.argv[0])}"
