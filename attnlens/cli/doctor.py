"""``attnlens doctor``: does attnlens see this model exactly, on this machine?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.cli.output import out

if TYPE_CHECKING:
    from rich.console import Console

    from attnlens.models.self_check import CheckTable

__all__ = ["doctor"]

FAILED = {"required": "FAILS", "batching": "no: one by one", "note": "differs"}


def doctor(
    model: Annotated[str, typer.Argument(help="tiny:<family>, a checkpoint folder or a hub name.")],
    *,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, or a device map such as auto.")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    attention: Annotated[str, typer.Option(help="sdpa, flash_attention_2 or eager.")] = "sdpa",
    revision: Annotated[str | None, typer.Option(help="Hub revision.")] = None,
    adapter: Annotated[str | None, typer.Option(help="Folder of a PEFT adapter.")] = None,
) -> None:
    """Measure every claim that attnlens makes about a model on a small probe, and print them as a table.

    Exit code 3 when a required claim fails. Example: `attnlens doctor tiny:qwen2-audio`
    """
    from attnlens.models.load import load
    from attnlens.models.self_check import check_model

    options: dict[str, Any] = {"dtype": dtype, "device_map": device, "attn": attention}
    lens = load(model, **options, revision=revision, adapter=adapter)
    table = check_model(lens, tick=None if out.volume != "verbose" else out.remark)
    out.emit(table.to_dict(), lambda console: _render(console, table))
    if not table.passed:
        raise typer.Exit(3)


def _render(console: Console, table: CheckTable) -> None:
    from rich.table import Table

    told = f"{table.model}: weights {table.weights}, {table.dtype}, probe of {table.positions} positions"
    console.print(f"{told}; peak {table.peak_mb:.0f} MB on the device")
    grid = Table(box=None, pad_edge=False)
    grid.add_column("claim")
    grid.add_column("")
    grid.add_column("measured", justify="right")
    grid.add_column("limit", justify="right")
    grid.add_column("seconds", justify="right")
    for finding in table.findings:
        verdict = "ok" if finding.passed else FAILED[finding.weight]
        grid.add_row(finding.claim, verdict, finding.measured, finding.limit, f"{finding.seconds:.2f}")
    console.print(grid)
