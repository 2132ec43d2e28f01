"""``attnlens traces``: what is in a store, is it sound, and how do other programs read it?"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.cli.output import out

if TYPE_CHECKING:
    import xarray as xr
    from rich.console import Console

    from attnlens.traces.check import StoreReport

__all__ = ["app"]

SHOWN = 20
FOUND = 3

StorePath = Annotated[Path, typer.Argument(help="A store: the traces.zarr of a run directory.")]

app = typer.Typer(no_args_is_help=True, help="Look after stored traces.", rich_markup_mode=None)


@app.callback()
def traces() -> None:
    """Look after stored traces."""


@app.command("info")
def info(path: StorePath) -> None:
    """Say what a store holds and how it was made; reads coordinates only.

    Example: `attnlens traces info runs/default/traces.zarr`
    """
    from attnlens.traces.reading import open_traces

    dataset = open_traces(path, items="all", lazy="zarr")
    groups = _groups(dataset)
    size = sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
    result: dict[str, Any] = {
        "path": str(path),
        "bytes": size,
        "sizes": dict(dataset.sizes),
        "variables": {str(name): list(map(str, dataset[name].dims)) for name in dataset.data_vars},
        "attributes": {str(name): value for name, value in dataset.attrs.items() if name != "items"},
        "groups": groups,
    }
    out.emit(result, lambda console: _render_info(console, result))


@app.command("validate")
def validate(
    path: StorePath,
    *,
    redo: Annotated[
        bool, typer.Option("--redo", help="Unmark damaged items, so that the next run measures them again.")
    ] = False,
) -> None:
    """Read a whole store and compare every finished item with its checksum and the schema.

    Exit code 0: all are as they were measured. 3: some are not, also when --redo unmarked them.

    Example: `attnlens traces validate runs/default/traces.zarr`
    """
    from attnlens.traces.check import check_store
    from attnlens.traces.writing import TraceStore

    tick = None if out.quiet or out.json else _tick
    report = check_store(path, tick=tick)
    redone = list(report.damaged) if redo else []
    if redone:
        TraceStore.open(path).redo(redone)
    out.emit({**report.to_dict(), "redo": redone}, lambda console: _render_report(console, report, redone))
    if not report.sound:
        raise typer.Exit(FOUND)


@app.command("export")
def export(
    path: StorePath,
    target: Annotated[Path, typer.Argument(metavar="OUT.nc", help="The netCDF-4 file to write.")],
) -> None:
    """Write the finished items of a store as one netCDF-4 file, which R, Julia and MATLAB read.

    Example: `attnlens traces export runs/default/traces.zarr traces.nc`
    """
    from attnlens.traces.export import export_netcdf

    written = export_netcdf(path, target)
    size = written.stat().st_size
    result = {"path": str(written), "bytes": size}
    out.emit(result, lambda console: console.print(f"{written}: {_bytes(size)}", markup=False))


def _groups(dataset: xr.Dataset) -> list[dict[str, Any]]:
    names = ("condition", "shots", "control", "intervention")
    keys = list(zip(*(dataset[name].values.tolist() for name in names), strict=True))
    planned = Counter(keys)
    done = Counter(key for key, there in zip(keys, dataset["finished"].values, strict=True) if there)
    return [
        {**dict(zip(names, key, strict=True)), "finished": done[key], "planned": count}
        for key, count in sorted(planned.items())
    ]


def _render_info(console: Console, result: dict[str, Any]) -> None:
    from rich.table import Table

    attributes = result["attributes"]
    sizes = ", ".join(f"{name} {size:,}" for name, size in result["sizes"].items())
    console.print(f"{result['path']}: {_bytes(result['bytes'])}; {sizes}", markup=False, soft_wrap=True)
    done, planned = attributes["items_finished"], attributes["items_planned"]
    more = "" if done == planned else "; the run can be resumed"
    console.print(f"{done:,} of {planned:,} items are finished{more}")
    table = Table(box=None, pad_edge=False)
    for name in ("condition", "shots", "control", "intervention", "finished", "planned"):
        table.add_column(name, justify="left" if name in {"condition", "control", "intervention"} else "right")
    for row in result["groups"]:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    console.print()
    console.print(table)
    console.print("\nvariables: " + ", ".join(result["variables"]), markup=False, soft_wrap=True)
    for name, value in attributes.items():
        if name not in {"items_finished", "items_planned"}:
            console.print(f"{name}: {value}", markup=False, soft_wrap=True)


def _render_report(console: Console, report: StoreReport, redone: list[str]) -> None:
    counts = f"{report.finished:,} of {report.planned:,} items are finished"
    if report.sound:
        console.print(f"{counts}, and all of these are as they were measured")
        return
    console.print(f"{counts}; {len(report.damaged):,} items cannot be trusted:", markup=False)
    for name, why in list(report.damaged.items())[:SHOWN]:
        console.print(f"  {name}: {why}", markup=False, soft_wrap=True)
    if len(report.damaged) > SHOWN:
        console.print(f"  and {len(report.damaged) - SHOWN:,} more; --json lists all")
    if redone:
        console.print(f"unmarked {len(redone):,} items; run the same command again to measure them")
    else:
        console.print("--redo unmarks them, so that the next run measures them again", markup=False)


def _tick(done: int, of: int) -> None:
    # A line now and then is enough for what takes minutes only on stores of many gigabytes.
    if of >= SHOWN and done * 10 // of > (done - 1) * 10 // of:
        out.remark(f"checked {done:,} of {of:,} regions")


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
