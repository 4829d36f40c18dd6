"""The command line: one file a subcommand; each parses, calls one function below, and prints.

Nothing here imports torch, so ``--help`` answers at once.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

import gnncompress
from gnncompress.cli import (
    checkpoint,
    compare,
    doctor,
    listing,
    lottery,
    profile,
    prune,
    quantize,
    report,
    sensitivity,
    train,
)
from gnncompress.cli.console import tell
from gnncompress.cli.options import grouped
from gnncompress.cli.then import take_following
from gnncompress.errors import GnncompressError, ParameterError

_INTERRUPTED = 130


@dataclass(frozen=True)
class _Command:
    """A subcommand: a function with its examples and settings, or an application with subcommands of its own."""

    function: Callable[..., Any] | None = None
    examples: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    app: typer.Typer | None = None

    @property
    def help(self) -> str:
        text = str(self.app.info.help) if self.app is not None else inspect.getdoc(self.function) or ""
        return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))  # lines of the terminal's

    def application(self, name: str) -> typer.Typer:
        if self.app is not None:
            return self.app
        assert self.function is not None
        made = typer.Typer(add_completion=False, rich_markup_mode="rich")
        settings = dict(self.settings)
        made.command(name, help=self.help, epilog=self.examples, context_settings=settings)(grouped(self.function))
        return made


_COMMANDS = {
    "train": _Command(train.train, train.EXAMPLES),
    "prune": _Command(prune.prune, prune.EXAMPLES),
    "quantize": _Command(quantize.quantize, quantize.EXAMPLES),
    "sensitivity": _Command(sensitivity.sensitivity, sensitivity.EXAMPLES),
    "lottery": _Command(lottery.lottery, lottery.EXAMPLES),
    "report": _Command(report.report, report.EXAMPLES),
    "compare": _Command(compare.compare, compare.EXAMPLES),
    "profile": _Command(profile.profile, profile.EXAMPLES, profile.SETTINGS),
    "doctor": _Command(doctor.doctor),
    "checkpoint": _Command(app=checkpoint.app),
    "workloads": _Command(listing.workloads),
    "datasets": _Command(listing.datasets),
    "models": _Command(listing.models),
    "methods": _Command(listing.methods),
}


class _Lazy(TyperGroup):
    """Makes a command's options when it is invoked, which imports the methods; to list it needs its help alone."""

    def __init__(self, **about: Any) -> None:
        listed = {name: TyperCommand(name=name, help=one.help, callback=None) for name, one in _COMMANDS.items()}
        super().__init__(**{**about, "commands": listed})

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else _made(name), rest


@lru_cache
def _made(name: str) -> Any:
    return typer.main.get_command(_COMMANDS[name].application(name))


app = typer.Typer(
    name="gnncompress",
    cls=_Lazy,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gnncompress {gnncompress.__version__}")
        raise typer.Exit


@app.callback(
    epilog="Examples:\n\n"
    "  gnncompress prune --method global --sparsity 0.5\n\n"
    "  gnncompress prune -d cora -m spline --sparsity 0:0.9:0.1 --seeds 5\n\n"
    "  gnncompress quantize -w gin-proteins --scheme dq-int8\n\n"
    "  gnncompress train --workload proteins --seed 777\n\n"
    "  gnncompress report"
)
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Train graph neural networks, compress them, and measure honestly what the compression bought."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 for success, 1 for a failure, 2 for wrong usage, 130 for Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.exit(_run(arguments))


def _run(arguments: list[str]) -> int:
    try:
        code = app(take_following(arguments), standalone_mode=False)
    except GnncompressError as error:
        if "--debug" in arguments[: arguments.index("--") if "--" in arguments else None]:
            raise
        text = error.told(_flag(error.parameter)) if isinstance(error, ParameterError) else str(error)
        return _say(text, error.exit_code)
    except typer.Exit as stop:
        return int(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except typer.TyperException as error:
        message = error.format_message()  # empty where no arguments were given and the help was shown instead
        return _say(message, error.exit_code) if message else error.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left; say nothing more
        return 1
    if code == _INTERRUPTED:  # Typer turns Ctrl-C into this code and says nothing
        return _say("interrupted; finished runs are kept, the same command goes on from there", code)
    return code if isinstance(code, int) else 0


# Flags that are not their parameter's name with dashes.
_FLAGS = {"edges": "--prune-edges", "inference_batch": "--batch-size", "changes": "--set"}


def _flag(parameter: str) -> str:
    return _FLAGS.get(parameter, f"--{parameter.replace('_', '-')}")


def _say(message: str, code: int) -> int:
    tell("error", message)
    return code
