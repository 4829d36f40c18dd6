"""The command line: one file a subcommand; each parses, calls one function below, and prints.

Nothing here imports torch, so ``--help`` answers at once.
"""

from __future__ import annotations

import sys

import typer

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
from gnncompress.errors import GnncompressError

_INTERRUPTED = 130

app = typer.Typer(
    name="gnncompress",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train", epilog=train.EXAMPLES)(train.train)
app.command("prune", epilog=prune.EXAMPLES)(prune.prune)
app.command("quantize", epilog=quantize.EXAMPLES)(quantize.quantize)
app.command("sensitivity", epilog=sensitivity.EXAMPLES)(sensitivity.sensitivity)
app.command("lottery", epilog=lottery.EXAMPLES)(lottery.lottery)
app.command("report", epilog=report.EXAMPLES)(report.report)
app.command("compare", epilog=compare.EXAMPLES)(compare.compare)
app.command("profile", epilog=profile.EXAMPLES, context_settings=profile.SETTINGS)(profile.profile)
app.command("doctor")(doctor.doctor)
app.add_typer(checkpoint.app, name="checkpoint")
app.command("workloads")(listing.workloads)
app.command("datasets")(listing.datasets)
app.command("models")(listing.models)
app.command("methods")(listing.methods)


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
        code = app(arguments, standalone_mode=False)
    except GnncompressError as error:
        if "--debug" in arguments[: arguments.index("--") if "--" in arguments else None]:
            raise
        return _say(str(error), error.exit_code)
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


def _say(message: str, code: int) -> int:
    tell("error", message)
    return code
