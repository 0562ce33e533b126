"""The `zoo` command: puts the groups together and turns every error into a message and an exit code.

0 done     1 unforeseen ZooError   2 usage or input   3 nothing fits   4-9 see zoo/errors.py
10 `zoo check` found a fault
70 a fault of ours   130 Ctrl-C   141 the reader of our output went away
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated, Any

import typer
import typer.core

from zoo.errors import ZooError
from zoo.files import storage_error

# typer carries its own click and exports one leaf of its tree of usage errors: its root is found from there.
USAGE_ERROR = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
FAULT, INTERRUPTED, NO_READER = 70, 130, 141
RESUMABLE = ("train",)
# Modules of this package and their commands: one that is not called is not imported.
GROUPS = {
    "models": ("list", "info", "doctor"),
    "training": ("train",),
    "augmenting": ("augment",),
    "shipping": ("evaluate", "export", "verify"),
    "predicting": ("predict",),
    "calibrating": ("calibrate",),
    "curves": ("find-lr", "plot"),
    "checking": ("check",),
    "costs": ("bench",),
    "comparing": ("compare",),
    "selecting": ("select",),
    "caching": ("cache",),
    "tuning": ("tune", "curve"),
}
registered: set[str] = set()


class StoppedError(Exception):
    """Ctrl-C, with what the interrupted part says; typer keeps only the exit code of a KeyboardInterrupt."""


class ReaderGoneError(Exception):
    """The reader of our output closed it; typer would exit with 1, as for a failure."""


class Group(typer.core.TyperGroup):
    """The commands, with two ends that typer has its own ideas of."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise StoppedError(str(interrupt)) from interrupt
        except BrokenPipeError as error:
            raise ReaderGoneError from error


app = typer.Typer(
    name="zoo",
    cls=Group,
    help="Which pretrained model do I ship? PyTorch, TensorFlow and Hugging Face, measured by one meter.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"backbone-zoo {metadata.version('backbone-zoo')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _register(chosen: Sequence[str]) -> None:
    """Import the group of the command that is called, or all of them: for help, and near names of a misspelt one."""
    names = [name for name, commands in GROUPS.items() if chosen[0] in commands] or list(GROUPS)
    for name in names:
        if name not in registered:
            importlib.import_module(f"zoo.cli.{name}").register(app)
            registered.add(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `zoo` with `arguments` (default: the process's own); returns the exit code, never raises."""
    chosen = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    _register(chosen)
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        return _run(chosen)


def _run(chosen: list[str]) -> int:
    try:
        code = app(args=chosen, prog_name="zoo", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except StoppedError as interrupt:
        return _interrupted(chosen, str(interrupt))
    except Exception as error:  # noqa: BLE001  the last door: whatever it is becomes a message and a code
        if isinstance(error, BrokenPipeError | ReaderGoneError):
            return _quiet()
        if os.environ.get("ZOO_DEBUG"):
            traceback.print_exc()
        text, code = explain(error, chosen)
        _say(text)
        return code
    except KeyboardInterrupt:
        return _interrupted(chosen)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    """Without the line of code that warned: who types commands does not read it."""
    _say(f"warning: {message}")


def explain(error: Exception, arguments: Sequence[str] = ()) -> tuple[str, int]:
    """The message for standard error, and the exit code."""
    if isinstance(error, ZooError):
        return f"error: {error}", error.exit_code
    if isinstance(error, USAGE_ERROR):
        return _usage(error), int(getattr(error, "exit_code", 2))
    if isinstance(error, typer.Abort):
        return "stopped.", INTERRUPTED
    if isinstance(error, OSError) and error.filename is not None:
        return _path_trouble(error)
    if isinstance(error, OSError) and error.errno in FULL:
        return f"error: the disk is full: {error.strerror}. Free some space and run it again.", 8
    command = arguments[0] if arguments else ""
    return (
        f"error: `zoo {command}` failed in a way we did not foresee: {type(error).__name__}: {error}\n"
        "This is a fault of Backbone Zoo. ZOO_DEBUG=1 shows where; please report it with that output "
        "and with `zoo doctor`.",
        FAULT,
    )


def _usage(error: Exception) -> str:
    """click's message, its first letter small, with the command's help named."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "zoo"
    message = str(getattr(error, "format_message", lambda: str(error))())
    message = message.replace("Value error, ", "")  # pydantic's, in typer's words for a choice that is none
    end = "" if message.endswith((".", "?")) else "."
    return f"error: {message[:1].lower()}{message[1:]}{end} `{path} --help` shows what there is."


def _path_trouble(error: OSError) -> tuple[str, int]:
    if error.errno in FULL or error.errno == errno.EROFS:
        return f"error: {storage_error(error.filename, error)}", 8
    return f"error: {error.filename}: {error.strerror}. Check the path and your rights to it.", 2


def _interrupted(arguments: Sequence[str], said: str = "") -> int:
    if not said and arguments and arguments[0] in RESUMABLE:
        said = "Finished epochs are kept: the same command with --resume goes on from the last"
    _say(f"\nstopped by Ctrl-C. {said[:1].upper()}{said[1:]}{'.' if said else ''}".rstrip())
    return INTERRUPTED


def _quiet() -> int:
    """The reader (`head`, `less`) closed our output: say nothing, also not while Python shuts down."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    return NO_READER


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201  the command line prints
