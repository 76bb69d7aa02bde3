"""Entry point: commands, exit statuses, and errors as sentences.

Exit status: 0 done, 1 the work failed (one or two sentences on stderr, no traceback), 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tapdot.cli.bits import pareto_command
from tapdot.cli.compiling import compile_command
from tapdot.cli.devices import bundle_command, devices_command, doctor_command, serve_command, tracker_command
from tapdot.cli.inspection_command import inspect_command
from tapdot.cli.measuring import bench_command, measure_command
from tapdot.cli.options import JsonOption
from tapdot.cli.output import fail, print_json
from tapdot.cli.pruning import prune_command
from tapdot.cli.running import run_command, verify_command
from tapdot.cli.sensitivity import sensitivity_command
from tapdot.cli.tuning import records_app, tune_command


class Interrupted(Exception):
    """Ctrl-C during a command; its text, where it has one, says how to go on."""


class Commands(TyperGroup):
    """The commands; an interruption passes through as an ordinary exception, where typer would leave without a word."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted(*error.args) from error


app = typer.Typer(
    name="tapdot",
    cls=Commands,
    help="Compiles a trained CNN into tuned kernels, verifies them against an exact reference, and measures them on the device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Runs the command line and turns failures a user can act on into sentences and exit status 1."""
    _keep_library_chatter_quiet()
    try:
        app(prog_name="tapdot")
    except (KeyboardInterrupt, Interrupted) as error:
        fail(f"Interrupted; nothing was left half-written. {error}".rstrip())
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        if (sentence := _sentence(error)) is None:
            raise
        fail(sentence)


def _sentence(error: Exception) -> str | None:
    """What to tell the user, or None for a defect of tapdot, whose traceback must be seen."""
    from tapdot.compiler.errors import TapdotError
    from tapdot.kernels.target import UnknownTargetError

    return str(error) if isinstance(error, TapdotError | UnknownTargetError) else None


def _keep_library_chatter_quiet() -> None:
    """Warnings of libraries about their own insides are no business of a user's."""
    import warnings

    warnings.filterwarnings("ignore")
    os.environ.setdefault("TORCH_LOGS", "-all")
    os.environ.setdefault("TVM_LOG_DEBUG", "")


def recipes_command(as_json: JsonOption = False) -> None:
    """Lists recipes, and every option of their passes as --set takes it."""
    from tapdot.cli.tables import recipe_rows

    rows = recipe_rows()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        typer.echo(f"{row['recipe']}: {row['meaning']}")
        for option in row["options"]:
            typer.echo(f"  --set {option}")


# In the order of `tapdot --help`.
app.command("compile")(compile_command)
app.command("prune")(prune_command)
app.command("run")(run_command)
app.command("verify")(verify_command)
app.command("measure")(measure_command)
app.command("bench")(bench_command)
app.command("tune")(tune_command)
app.add_typer(records_app, name="records")
app.command("sensitivity")(sensitivity_command)
app.command("pareto")(pareto_command)
app.command("inspect")(inspect_command)
app.command("devices")(devices_command)
app.command("recipes")(recipes_command)
app.command("doctor")(doctor_command)
app.command("bundle")(bundle_command)
app.command("tracker")(tracker_command)
app.command("serve")(serve_command)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """tapdot."""
    if version:
        import tapdot

        typer.echo(f"tapdot {tapdot.__version__}")
        raise typer.Exit()
