"""The command ``attnlens``: which sub-commands there are, and how every one of them ends."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

from attnlens import __version__
from attnlens.cli import (
    ablate,
    compare,
    data,
    doctor,
    ls,
    plan,
    plot,
    prompt,
    rerank,
    traces,
    train,
    transcribe,
    validate,
)
from attnlens.cli import report as reporting
from attnlens.cli import run as running
from attnlens.cli.failure import explain, report
from attnlens.cli.output import out
from attnlens.errors import AttnlensError

__all__ = ["app", "run"]

EXAMPLES = """
Examples:

  attnlens run                                      measure the default, and print the answer

  attnlens run spec.yaml --out runs/mine            the same command again goes on where it stopped

  attnlens plan spec.yaml                           what would be done, and what would it cost?

  attnlens ls models                                which models can be looked into

  attnlens validate spec.yaml --set seeds=0,1       is this description of a run sound?

  attnlens data check corpus/                       is this corpus fit for use?

  attnlens prompt show corpus/ --model tiny:qwen3-asr --shots 2

  attnlens doctor tiny:qwen2-audio                  does attnlens see this model exactly?

  attnlens train recipe.yaml --out runs/joint       train by a recipe; the same command resumes

  attnlens plot runs/default modality_bias          figures, each with its data beside it

  attnlens ablate --out runs/evidence               what does the answer lose without it?

  attnlens report runs/default --tokens 4           one page with everything in it, to open in a browser

  attnlens rerank spec.yaml --out runs/rerank       choose among an acoustic model's hypotheses, and compare

  attnlens transcribe corpus/ new/*.wav             transcripts by a few examples

  attnlens compare runs/rerank --with paper:table6  published numbers beside ours

  attnlens traces info runs/default/traces.zarr     what is in a store, and is it whole?

The flags below work before and after a sub-command.

Exit codes: 0 done, 1 a bug, 2 refused, 3 problems found, 130 stopped.
"""

app = typer.Typer(
    name="attnlens",
    help="What speech language models use when they learn in context." + "\n" + EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(running.run)
app.command("plan")(plan.plan)
app.command("ls")(ls.ls)
app.command("train")(train.train)
app.command("rerank")(rerank.rerank)
app.command("transcribe")(transcribe.transcribe)
app.command("validate")(validate.validate)
app.command("plot")(plot.plot)
app.command("report")(reporting.report)
app.command("compare")(compare.compare)
app.command("ablate")(ablate.ablate)
app.command("doctor")(doctor.doctor)
app.add_typer(data.app, name="data")
app.add_typer(prompt.app, name="prompt")
app.add_typer(traces.app, name="traces")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"attnlens {__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Results only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also say what is being done.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Results and errors as JSON.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of refusals too.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Set how every sub-command answers."""
    out.volume = "quiet" if quiet else "verbose" if verbose else "normal"
    out.json, out.debug = json, debug


ANYWHERE = {"--quiet", "-q", "--verbose", "-v", "--json", "--debug"}


def _hoisted(arguments: list[str]) -> list[str]:
    # The parser knows root flags only before the sub-command; people type them last.
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags = [argument for argument in arguments[:end] if argument in ANYWHERE]
    return flags + [argument for argument in arguments[:end] if argument not in ANYWHERE] + arguments[end:]


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process: 0 done, 2 refused, 1 a bug (with its traceback), 130 stopped."""
    arguments = _hoisted(sys.argv[1:] if arguments is None else arguments)
    out.debug, out.json = "--debug" in arguments, "--json" in arguments
    try:
        code = app(arguments, prog_name="attnlens", standalone_mode=False)
    except typer.TyperException as error:
        _refuse(explain(error, arguments))
    except AttnlensError as error:
        _refuse(error)
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("stopped\n")
        sys.exit(130)
    except BrokenPipeError:
        # `attnlens ls models | head` is no failure of ours.
        sys.stderr.close()
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


def _refuse(error: AttnlensError) -> None:
    if out.debug:
        traceback.print_exc()
    report(error)
    sys.exit(2)
