"""Several adapters of one model under one spec: a run for each, and what the training of one changed as one result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.errors import BadInput, listing
from attnlens.run.carry_out import Outcome, Planned, run_spec
from attnlens.run.folder import RunFolder, default_folder, read_table, writing
from attnlens.run.spec import RunSpec
from attnlens.run.tables import compare_adapters
from attnlens.run.watch import Watcher

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Compared", "adapter_specs", "open_compared", "parse_adapters", "run_adapters"]

OWN = "own"
"""Stands for the adapter that a model's checkpoint brings, as `none` stands for no adapter."""
TABLE = "adapters.csv"


@dataclass(frozen=True)
class Compared:
    """How the runs of all adapters ended, and their differences to the first, one row per corpus, cell and measure."""

    folder: Path
    outcomes: dict[str, Outcome]
    differences: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ended(self) -> str:
        """``finished`` when all are."""
        endings = [one.ended for one in self.outcomes.values()]
        return next((one for one in endings if one != "finished"), "finished")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        runs = {name: one.to_dict() for name, one in self.outcomes.items()}
        return {"folder": str(self.folder), "ended": self.ended, "adapters": runs, "differences": self.differences}


def parse_adapters(given: str) -> dict[str, str]:
    """Read ``base=none,xft=PATH``: names for adapters, the first being what the others are compared with.

    >>> parse_adapters("base=none,xft=runs/xft/model")
    {'base': 'none', 'xft': 'runs/xft/model'}
    """
    found: dict[str, str] = {}
    for part in given.split(","):
        name, equals, place = (one.strip() for one in part.partition("="))
        if not equals or not name or not place or not name.replace("-", "").replace("_", "").isalnum():
            raise BadInput(
                "--compare takes names and adapters", given=part or given, fix="write base=none,xft=runs/xft/model"
            )
        if name in found:
            raise BadInput("two adapters have one name", given=name, fix="give each its own")
        found[name] = place
    if len(found) < 2:  # noqa: PLR2004
        raise BadInput("a comparison has two sides", given=given, fix="write base=none,xft=runs/xft/model")
    return found


def adapter_specs(spec: RunSpec, adapters: Mapping[str, str]) -> dict[str, RunSpec]:
    """Return the spec of each adapter; places are looked for here, before anything runs."""
    for name, place in adapters.items():
        if place in {"none", OWN} or (Path(place) / "adapter_config.json").is_file() or place.count("/") == 1:
            continue
        there = Path(place)
        raise BadInput(
            f"there is no adapter {name!r} to compare",
            given=place,
            present=listing(sorted(one.name for one in there.iterdir())) if there.is_dir() else None,
            fix="pass a folder with adapter_config.json (the folder `model` of a training), none, or own",
        )
    return {
        name: spec.updated({"model.adapter": None if place == OWN else place, "name": f"{spec.name}-{name}"})
        for name, place in adapters.items()
    }


def run_adapters(
    spec: RunSpec,
    adapters: Mapping[str, str],
    out: Path | str | None = None,
    *,
    watch: Watcher | None = None,
    planned: Planned | None = None,
    told: Callable[[str], None] | None = None,
) -> Compared:
    """Carry a spec out with each adapter in turn, in folders of their names; the same call goes on where it stopped.

    Parameters
    ----------
    out
        By default ``runs/<name>-<hash>-adapters``.
    told
        Called with the name of each adapter when its run begins.
    """
    specs = adapter_specs(spec, adapters)
    default = default_folder(spec)
    folder = Path(out) if out is not None else default.with_name(f"{default.name}-adapters")
    outcomes = {}
    for name, one in specs.items():
        if told is not None:
            told(name)
        outcomes[name] = run_spec(one, folder / name, watch=watch, planned=planned)
        if outcomes[name].ended == "stopped":
            return Compared(folder, outcomes)
    return Compared(folder, outcomes, _differences(spec, folder, list(specs)))


def open_compared(folder: str | Path) -> xr.Dataset:
    """Return the traces of all adapters as one dataset, with the coordinate ``adapter`` along ``item``.

    An item's id is the adapter's name and its id in that adapter's run.
    """
    import xarray as xr

    from attnlens.traces.reading import open_traces

    parts = []
    for name in _names(Path(folder)):
        one = open_traces(Path(folder) / name / "traces.zarr")
        ids = [f"{name}/{item}" for item in one["item"].values.tolist()]
        parts.append(one.assign_coords(item=ids, adapter=("item", [name] * len(ids))))
    return xr.concat(parts, dim="item", combine_attrs="drop_conflicts")


def _names(folder: Path) -> list[str]:
    found = sorted(one.parent.name for one in folder.glob("*/traces.zarr"))
    if not found:
        raise BadInput(f"{folder} holds no comparison of adapters", fix="pass the --out of `attnlens run --compare`")
    return found


def _differences(spec: RunSpec, folder: Path, names: list[str]) -> list[dict[str, Any]]:
    runs = {name: RunFolder(folder / name) for name in names}
    items = {name: run.read_items() for name, run in runs.items()}
    stores = {name: run.traces for name, run in runs.items()}
    rows = compare_adapters(items, stores, normaliser=spec.data.normaliser)
    whole = RunFolder(folder)
    with writing(folder):
        whole.tables.mkdir(parents=True, exist_ok=True)
        whole.write_table(whole.tables / TABLE, rows)
        _draw(stores, folder / "figures")
    return read_table(whole.tables / TABLE)


def _draw(stores: Mapping[str, Path], folder: Path) -> None:
    from attnlens.plots.change import bias_change
    from attnlens.traces.reading import open_traces

    try:
        bias_change({name: open_traces(path) for name, path in stores.items()}).save(folder)
    except BadInput:
        return  # no prompt shows both modalities: the table says what there is
