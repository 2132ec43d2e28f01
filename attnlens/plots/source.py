"""Where figures come from: a run directory or a bare store, read as far as there is something to read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.errors import BadInput, listing

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from attnlens.plots.tokens import Tokens

__all__ = ["Source"]


@dataclass(frozen=True)
class Source:
    """A run directory, or a trace store by itself; nothing is read before it is asked for.

    >>> import tempfile
    >>> from attnlens.testing import trace
    >>> from attnlens.traces.writing import save
    >>> path = Path(tempfile.mkdtemp()) / "traces.zarr"
    >>> _ = save(trace(items=3), path)
    >>> source = Source.open(path)
    >>> source.label, source.traces.sizes["item"], sorted(source.tables)
    ('traces', 3, [])
    """

    folder: Path
    store: Path
    label: str
    whole: bool = field(default=True)

    @classmethod
    def open(cls, path: str | Path, *, label: str | None = None) -> Source:
        """Open a run directory or a store; ``label`` is what figures call it, the folder's name by default."""
        path = Path(path)
        if (path / "traces.zarr" / "zarr.json").exists():
            return cls(path, path / "traces.zarr", label or path.resolve().name)
        if (path / "zarr.json").exists():
            return cls(path.parent, path, label or path.stem, whole=False)
        there = sorted(one.name for one in path.iterdir()) if path.is_dir() else []
        raise BadInput(
            f"{path} is neither a run directory nor a store",
            present=listing(there, at_most=8) or "nothing",
            fix="pass the folder that `attnlens run` wrote, or the traces.zarr in it",
        )

    @cached_property
    def traces(self) -> xr.Dataset:
        """The finished items of the store that nothing was cut in."""
        from attnlens.traces.reading import open_traces

        found = open_traces(self.store)
        cut = found["intervention"].values != "none"
        # A store of interventions alone is drawn as it is.
        return found.isel(item=~cut) if cut.any() and not cut.all() else found

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables of the run by name, in the order of their names."""
        import pandas as pd

        found = {}
        for path in sorted((self.folder / "tables").glob("*.csv")) if self.whole else ():
            try:
                found[path.stem] = pd.read_csv(path, keep_default_na=False, na_values=[""])
            except pd.errors.EmptyDataError:
                found[path.stem] = pd.DataFrame()
            except (pd.errors.ParserError, UnicodeDecodeError) as error:
                raise BadInput(f"{path} is no table: {error}", fix="restore or remove the file") from error
        return found

    def table(self, name: str) -> pd.DataFrame:
        """Return a table, or refuse its absence."""
        if name not in self.tables or not len(self.tables[name]):
            raise BadInput(f"the run has no table {name!r}", present=listing(self.tables) or "no table")
        return self.tables[name]

    @cached_property
    def tokens(self) -> dict[str, Tokens]:
        """Token-level detail by item, for as many items as have some."""
        from attnlens.plots.tokens import read_tokens

        return read_tokens(self.folder) if self.whole else {}

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What the run says about how it was made."""
        path = self.folder / "provenance.json"
        if not self.whole or not path.exists():
            return {}
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise BadInput(f"{path} is no JSON: {error}", fix="restore or remove the file") from error

    @cached_property
    def spec(self) -> str:
        """The resolved spec as it was written."""
        path = self.folder / "spec.yaml"
        return path.read_text(encoding="utf-8") if self.whole and path.exists() else ""
