"""The `wormwheel` command.

Each verb is a frozen dataclass of options, from which its command line is made, and a function that takes it. A verb's
module is imported when it runs; help is read from its source, so it comes at once. Whatever happens to the screen,
work goes on and results are written (`experiments.streams`).

    wormwheel record --out runs/record --frames 2000

Modules that are run by `python -m` have the same command line:

    if __name__ == "__main__":
        run_script(Options, run)
"""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import logging
import os
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from experiments.error_words import describe, is_validation, one_line
from experiments.help.advice import did_you_mean, nearest
from experiments.help.declared import Declared, read_options
from experiments.help.page import help_page
from experiments.help.refusals import in_own_words
from experiments.interrupts import INTERRUPTED, LINE, at_once, is_command, may_say, raised
from experiments.option_values import impossible
from experiments.outputs import check_outputs
from experiments.streams import LastingStream, lasting_streams
from experiments.threads import noted
from wormwheel import explain, hidden_by

ROOMS = ("policies", "envs", "agents")
"""The packages beside this one; other distributions own such names."""
USAGE_ERROR = 2
"""Exit code when what was asked for cannot be done: bad options, bad input, nowhere to write."""
PIPE_CLOSED = 141
"""Exit code when nobody reads the output any more, as shells have it."""
TRACEBACK = "WORMWHEEL_TRACEBACK"
"""Environment variable; when it is 1, errors that are one line otherwise come with where they happened."""


@dataclass(frozen=True)
class Verb:
    """Something that the command does."""

    module: str
    """Where it lives; imported when it is called for."""
    options: str
    """Name of the dataclass of its options in that module."""
    summary: str
    """One line for `wormwheel --help`."""
    function: str = "run"
    """Name of the function in that module; it takes the options."""


VERBS: dict[str, Verb] = {
    "record": Verb("experiments.record", "RecordOptions", "let the expert drive and record frames and steering"),
    "train imitation": Verb("experiments.train_imitation", "TrainOptions", "train a driver on recorded driving"),
    "train dagger": Verb(
        "experiments.train_dagger", "TrainDaggerOptions", "train a driver on its own mistakes, an expert beside it"
    ),
    "train ppo": Verb("experiments.train_ppo", "TrainPPOOptions", "train a driver by trial and error"),
    "adapt": Verb("experiments.adapt", "AdaptOptions", "let a driver go on learning from interventions in its world"),
    "sweep": Verb("experiments.sweep", "SweepOptions", "try options of a training verb and show what was best"),
    "evaluate": Verb(
        "experiments.evaluate.verb", "EvaluateOptions", "drive policies on unseen roads, or test on recordings"
    ),
    "fit": Verb("experiments.fit.verb", "FitOptions", "find crop and gain for another camera and another car"),
    "gate": Verb("experiments.gate.verb", "GateOptions", "judge a policy for a pipeline: exit code 0, 1 or 3"),
    "robustness": Verb(
        "experiments.robustness.verb",
        "RobustnessOptions",
        "drive policies under everything that can go wrong, and compare",
    ),
    "table": Verb("experiments.table", "TableOptions", "print the tables of a robustness test as LaTeX, CSV, Markdown"),
    "render": Verb("experiments.film.verb", "RenderOptions", "film a driver on a road or on a recording"),
    "drive": Verb("experiments.drive.verb", "DriveOptions", "drive yourself, record it, hand over to a policy"),
    "explain": Verb("experiments.explain.verb", "ExplainOptions", "see a driver think: a page on why it steers so"),
    "export": Verb(
        "experiments.export.verb", "ExportOptions", "write a folder that drives a car without torch: ONNX or NumPy"
    ),
    "bench latency": Verb(
        "experiments.benchmarks.latency", "LatencyBenchmark", "time a policy from picture to steering on this computer"
    ),
    "demo": Verb("experiments.demo.verb", "DemoOptions", "record, train, drive, film: all of it and a page about it"),
    "gallery": Verb("experiments.gallery.verb", "GalleryOptions", "draw every perturbation at every severity"),
    "data info": Verb("experiments.data.info", "InfoOptions", "show what a recording holds, and what was left out"),
    "data check": Verb("experiments.data.check", "CheckOptions", "look for what is wrong with a recording"),
    "data convert": Verb("experiments.data.convert", "ConvertOptions", "write a recording in another format"),
    "data view": Verb("experiments.data.view", "ViewOptions", "film a recording with its steering drawn"),
    "data fix": Verb("experiments.data.fix", "FixOptions", "write a copy in which what was found is mended"),
    "data cross-validate": Verb(
        "experiments.data.cross_validate", "CrossValidateOptions", "train on all blocks but one and test on it, in turn"
    ),
    "info": Verb(
        "experiments.info", "InfoOptions", "show cores, a policy, a data set, the env, the perturbations, or versions"
    ),
}
"""The verbs, in the order shown. To add one: a module with a dataclass of options and `run`, and a line here."""


class _Notes(logging.Handler):
    """Shows what the libraries log as `note:` lines on whatever standard error is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record on one line."""
        print(f"note: {one_line(record.getMessage())}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows `wormwheel`; that of the process when None.

    Returns:
        The exit code: 0, 2 for what cannot be done as asked, 130 after Ctrl-C. A bug raises.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with at_once(for_good=is_command()):
        return guarded("wormwheel", lambda: _run(words))


def guarded(name: str, work: Callable[[], int]) -> int:
    """Do what a command line asked for, and say in one line what cannot be done.

    Printing never fails meanwhile, so nothing is lost that was to be written after it; what became of standard output
    is in the exit code.

    Args:
        name: the line begins with it.
        work: returns the exit code.

    Returns:
        The exit code; see `main`.
    """
    with lasting_streams() as (out, _):
        code = _attempt(name, work)
        out.flush()
        return code or _code_of(name, out)


def _code_of(name: str, out: LastingStream) -> int:
    """Return the exit code for what became of standard output."""
    if out.failure is None:
        return 0
    if isinstance(out.failure, BrokenPipeError):
        return PIPE_CLOSED
    reason = out.failure.strerror if isinstance(out.failure, OSError) and out.failure.strerror else str(out.failure)
    _complain(name, f"standard output could not be written ({reason}); files are complete")
    return USAGE_ERROR


def _attempt(name: str, work: Callable[[], int]) -> int:
    """Run, and turn what went wrong into a line and an exit code."""
    try:
        with noted() as threads:
            code = work()
        if threads.first is not None and not code:
            raise threads.first
        return code
    except KeyboardInterrupt:
        if may_say():
            _complain(name, LINE)
        return INTERRUPTED
    except (Exception, SystemExit) as error:
        line = _line_of(error)
        if line is None:
            raise
        if os.environ.get(TRACEBACK) == "1":
            traceback.print_exc()
        _complain(name, line)
        return USAGE_ERROR


def _line_of(error: BaseException) -> str | None:
    """Say in one line what cannot be done; None for a bug of ours.

    Whatever the code of others raises (drivers, envs, cores, perturbations, formats of one's own) is told with the line
    of their file that it came from.
    """
    if isinstance(error, ForeignPackage):
        return describe(error)
    from envs.foreign_code import ForeignCodeError, describe_error, foreign_place, is_foreign

    if isinstance(error, Exception) and _is_memory(error):
        return f"there is not enough memory for this ({describe(error)}): ask for less, or for smaller sizes."
    if isinstance(error, ImportError):
        # A module of ours that is not there is a bug.
        return None if (error.name or "").split(".")[0] in (*ROOMS, "experiments") else describe(error)
    if isinstance(error, (ValueError, OSError)) and (isinstance(error, ForeignCodeError) or not is_foreign(error)):
        return describe(error)
    if foreign_place(error) is None:
        return None
    failed = describe_error(error)
    return one_line(f"code that is not Wormwheel's failed: {failed}. {TRACEBACK}=1 shows the way there.")


def _is_memory(error: Exception) -> bool:
    """Whether memory has run out; torch says so by a RuntimeError."""
    return isinstance(error, MemoryError) or "t allocate memory" in str(error)


class ForeignPackage(ValueError):
    """A folder of somebody else has the name of one of our packages and comes first."""


def check_rooms() -> None:
    """Check that the packages beside this one are the ones that will be imported.

    Raises:
        ForeignPackage: if a folder of that name comes first: another distribution's, or one beside a script.
    """
    for room in ROOMS:
        hides = hidden_by(room)
        if hides is not None:
            raise ForeignPackage(explain(room, hides))


def _run(arguments: list[str]) -> int:
    """Find the verb and run it."""
    check_rooms()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview(""))
        return 0 if arguments else USAGE_ERROR
    if arguments == ["--version"]:
        from agents.runs.directory import versions

        print(f"wormwheel {versions()['wormwheel']}")
        return 0
    for words in (2, 1):
        name = " ".join(arguments[:words])
        if name in VERBS:
            return _call(name, arguments[words:])
    group = arguments[0]
    if any(name.startswith(f"{group} ") for name in VERBS):
        if len(arguments) > 1 and arguments[1] not in ("-h", "--help"):
            given = " ".join(arguments[:2])
            near = [f"wormwheel {name}" for name in nearest(given, [one for one in VERBS if one.startswith(group)])]
            raise ValueError(f"there is no verb {given!r}.{_offer(near)} {_known(group)}")
        print(_overview(group))
        return 0 if len(arguments) > 1 else USAGE_ERROR
    near = [f"wormwheel {name}" for name in _near_verbs(arguments)]
    raise ValueError(f"there is no verb {group!r}.{_offer(near)} {_known('')}")


def _near_verbs(arguments: list[str]) -> list[str]:
    """Return the verbs that may have been meant: by two words, by the first, or by the second word of a verb."""
    groups = {word: name for name in VERBS for word in (*name.split(), name)}
    words = [" ".join(arguments[:2]), arguments[0]]
    return list(dict.fromkeys(groups[found] for word in words for found in nearest(word, groups)))[:3]


def _offer(near: list[str]) -> str:
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _call(name: str, arguments: list[str]) -> int:
    """Run one verb."""
    if not any(isinstance(handler, _Notes) for handler in logging.getLogger().handlers):
        logging.getLogger().addHandler(_Notes(logging.WARNING))
    verb, program = VERBS[name], f"wormwheel {name}"
    if show_help(program, verb.module, verb.options, arguments):
        return 0
    module = importlib.import_module(verb.module)
    kind = getattr(module, verb.options)
    options = parse_options(kind, program, arguments)
    if hasattr(module, "defaults_for"):
        # What the options name (the data) decides the defaults of the others; what the user gave stays given.
        with raised():  # An env of others may be asked.
            usual = module.defaults_for(options)
        options = parse_options(kind, program, arguments, default=usual)
    check_outputs(options, name)
    with raised():
        code = getattr(module, verb.function)(options)
    return code if isinstance(code, int) else 0


def show_help(program: str, module: str, kind: str, arguments: list[str], omit_prefixes: bool = False) -> bool:
    """Print the help that was asked for; returns whether it was.

    Args:
        program: how the command is called.
        module: where its options are declared.
        kind: name of their dataclass.
        arguments: what follows on the command line.
        omit_prefixes: as in `experiments.help.declared.read_options`.
    """
    asked = {word for word in arguments if word in ("-h", "--help", "--help-all")}
    if asked:
        width = shutil.get_terminal_size().columns
        print(help_page(program, module, kind, "--help-all" in asked, width, omit_prefixes))
    return bool(asked)


def parse_options(kind: Any, program: str, arguments: list[str], **more: Any) -> Any:
    """Return the options; what is wrong with them becomes one line.

    Args:
        kind: dataclass of the options.
        program: how it is called.
        arguments: what follows.
        **more: for `tyro.cli`.

    Raises:
        ValueError: if they are wrong.
    """
    import tyro

    arguments = with_words(arguments)
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            options = tyro.cli(kind, prog=program, args=arguments, **more)
        empty = any(word == "" or (word.startswith("--") and word.endswith("=")) for word in arguments)
        if trouble := next(impossible(options, without="" if empty and "." not in arguments else None), None):
            raise ValueError(f"{trouble} See {program} --help.")
        return options
    except SystemExit as leaving:
        # What a config refused is in the exception that tyro turned into its message.
        cause = leaving.__context__
        if cause is not None and is_validation(cause.__context__):
            cause = cause.__context__  # Of a config in the options, whose words tyro has put into its own.
        declared = _declared(kind, "config" in more)
        if isinstance(cause, ValueError):
            words = describe(cause)
        else:
            words = in_own_words(_gist(message.getvalue()), declared)
        raise ValueError(f"{words}{_meant(arguments, declared)} See {program} --help.") from None


def with_words(arguments: list[str]) -> list[str]:
    """Return the arguments with a word after `--bfloat16`, which was a switch in earlier versions."""
    words: list[str] = []
    for at, word in enumerate(arguments):
        name = word.rsplit(".", 1)[-1].removeprefix("--")
        if word.startswith("--") and name == "no-bfloat16":
            words += [word.replace("no-bfloat16", "bfloat16"), "off"]
            continue
        words.append(word)
        follows = arguments[at + 1] if at + 1 < len(arguments) else "--"
        if word.startswith("--") and name == "bfloat16" and follows.startswith("-"):
            words.append("on")
    return words


def _declared(kind: Any, omit_prefixes: bool) -> Declared:
    """Return what the source of the options says; nothing where it cannot be read."""
    module = sys.modules[kind.__module__]
    name = module.__spec__.name if module.__spec__ is not None else kind.__module__
    try:
        return read_options(name, kind.__name__, omit_prefixes)
    except (KeyError, OSError):
        return Declared("", "", ())


def _meant(arguments: list[str], declared: Declared) -> str:
    """Return what may have been meant by options that there are not."""
    known = declared.names()
    for word in arguments if known else ():
        option = word.partition("=")[0].replace("_", "-")
        if option.startswith("--") and option not in known:
            return did_you_mean(option, known)
    return ""


def _gist(box: str) -> str:
    """Return what a framed message of tyro says, without its frame, drawn in lines or in ASCII, and what follows it."""
    lines = [line.strip(" │╭╮╰╯|+") for line in box.splitlines()[1:]]
    said = itertools.takewhile(
        lambda line: line.strip("─-"), itertools.dropwhile(lambda line: not line.strip("─-"), lines)
    )
    return " ".join(said).strip().rstrip(".") + "."


def _overview(group: str) -> str:
    """List the verbs, or those of a group."""
    names = [name for name in VERBS if name.startswith(group)]
    wide, width = max(map(len, names)), shutil.get_terminal_size().columns
    hang = " " * (wide + 4)
    lines = [
        textwrap.fill(f"  {name:<{wide}}  {VERBS[name].summary}", max(width, 40), subsequent_indent=hang)
        for name in names
    ]
    usage = f"usage: wormwheel {group + ' ' if group else ''}VERB [OPTIONS]"
    example = f"Options with units and defaults: wormwheel {names[0]} --help"
    about = textwrap.fill(
        "Train, test and explain lane-keeping drivers whose brain is a liquid neural circuit.", max(width, 40)
    )
    return "\n".join([usage, "", about, "", *lines, "", example, "wormwheel --version shows the version."])


def _known(group: str) -> str:
    names = [name.removeprefix(group).strip() for name in VERBS if name.startswith(group)]
    return f"There is: {', '.join(names)}. See wormwheel {group + ' ' if group else ''}--help."


def _complain(name: str, line: str) -> None:
    """Print the one line; where nobody listens, the exit code says it."""
    print(f"{name}: {line}", file=sys.stderr)


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
        import tyro

        module = sys.modules[kind.__module__].__spec__
        if module is not None and show_help(called, module.name, kind.__name__, words, omit_prefixes=True):
            return 0
        options = parse_options(kind, called, words, config=(tyro.conf.OmitArgPrefixes,), **more)
        check_outputs(options)
        with raised():
            run(options)
        return 0

    with at_once():
        code = guarded(called.split()[-1].rpartition(".")[2], work)
    sys.exit(code)


def _started() -> str:
    """What the process was started by."""
    spec = sys.modules["__main__"].__spec__
    return f"python -m {spec.name}" if spec is not None else f"python {os.path.basename(sys.argv[0])}"


if __name__ == "__main__":
    sys.exit(main())
