"""A run directory: made once, gone on with by the same spec only, and told in files that people open."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.errors import BadInput, listing
from attnlens.run.item import Item
from attnlens.run.load import dump_spec, load_spec
from attnlens.run.lock import held
from attnlens.run.spec import RunSpec
from attnlens.traces.durable import commit

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["RunFolder", "default_folder", "differences", "read_csv", "read_table", "writing"]

LOG = logging.getLogger("attnlens.run")


@dataclass(frozen=True)
class RunFolder:
    """Where everything of a run lies."""

    path: Path

    @property
    def traces(self) -> Path:
        """The store."""
        return self.path / "traces.zarr"

    @property
    def rows(self) -> Path:
        """What items gave besides their traces, as the executors wrote it."""
        return self.path / "rows"

    @property
    def tables(self) -> Path:
        """Results as CSV."""
        return self.path / "tables"

    @property
    def items(self) -> Path:
        """One line per item: what it is and what came of it."""
        return self.path / "items.csv"

    @contextlib.contextmanager
    def opened(self, spec: RunSpec) -> Iterator[None]:
        """Hold the directory for this spec: made if it is new, refused if it is another's or somebody is at work."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._refuse_strangers()
        with contextlib.ExitStack() as stack:
            with writing(self.path):
                stack.enter_context(held(self.path / "lock"))
                self._settle(spec)
                stack.enter_context(_logged(self.path / "log.txt"))
            yield

    def write_items(self, items: Sequence[Item], rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Write ``items.csv`` from the plan and what is known of each item."""
        table = []
        for item in items:
            row = rows.get(item.id, {"status": "planned"})
            found = {name: row.get(name, "") for name in RESULTS}
            table.append({**item.to_row(), **found})
        self.write_table(self.items, table)

    def write_table(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a table whole or not at all; numbers with all their digits."""
        text = io.StringIO()
        if rows:
            writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        with writing(self.path):
            commit(path.parent, {path.name: text.getvalue().encode()})

    def read_items(self) -> list[dict[str, str]]:
        """Return the lines of ``items.csv``, none when there is none yet."""
        return read_csv(self.items)

    def steps(self) -> dict[str, str]:
        """Return what came of the steps after the run, by name."""
        try:
            found: dict[str, str] = json.loads((self.path / STEPS).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return found

    def note_steps(self, done: Mapping[str, str]) -> None:
        """Keep what came of the steps after the run."""
        with writing(self.path):
            commit(self.path, {STEPS: (json.dumps(done, ensure_ascii=False, indent=2) + "\n").encode()})

    def _refuse_strangers(self) -> None:
        there = [one.name for one in self.path.iterdir() if one.name != "lock"]
        if there and not (self.path / "spec.yaml").exists():
            raise BadInput(
                f"{self.path} holds something else than a run",
                present=listing(sorted(there), at_most=6),
                fix="pass an empty or a new directory as --out",
            )

    def _settle(self, spec: RunSpec) -> None:
        if not (self.path / "spec.yaml").exists():
            commit(self.path, {"spec.yaml": f"# resolved spec, hash {spec.hash}\n{dump_spec(spec)}".encode()})
        else:
            found = load_spec(self.path / "spec.yaml")
            if found.hash != spec.hash:
                raise BadInput(
                    f"{self.path} was begun with another spec",
                    given=listing(differences(found, spec), at_most=8),
                    fix=f"pass another --out, or go on with `attnlens run {self.path / 'spec.yaml'} --out {self.path}`",
                )
        self.rows.mkdir(exist_ok=True)


STEPS = "steps.json"
RESULTS = (
    "status",
    "transcription",
    "ended",
    "nll",
    "nll_first",
    "n_output_tokens",
    "n_chars",
    "positions",
    "frames_lost",
    "target_frames_lost",
    "error",
)


@contextlib.contextmanager
def _logged(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = LOG.level, LOG.propagate
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    # The log is the run's own; what a person should see goes through the watcher.
    LOG.propagate = False
    try:
        yield
    finally:
        LOG.setLevel(before[0])
        LOG.propagate = before[1]
        LOG.removeHandler(handler)
        handler.close()


def default_folder(spec: RunSpec) -> Path:
    """Return where a run goes when nobody says: the same spec finds its own results again.

    >>> default_folder(RunSpec()).parent.name
    'runs'
    """
    word = "".join(char if char.isalnum() or char in "-_" else "-" for char in spec.name).strip("-") or "run"
    return Path("runs") / f"{word}-{spec.hash[:8]}"


def differences(old: BaseModel, new: BaseModel) -> list[str]:
    """Say in which keys that determine results two specs differ.

    >>> differences(RunSpec(), RunSpec(seeds=[1], name="other"))
    ['seeds: [0] then, [1] now']
    """
    before, after = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    return [
        f"{key}: {before[key]!r} then, {after[key]!r} now"
        for key in before
        if before[key] != after[key] and key.split(".")[0] not in ("name", "execution")
    ]


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in fields.items():
        if isinstance(value, dict) and prefix + key != "execution":
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return a table's lines as text by column; an absent table has none."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_table(path: Path) -> list[dict[str, Any]]:
    """Return a table's lines with numbers as numbers; empty cells stay empty text."""
    return [{name: text if name in WORDS else _number(text) for name, text in row.items()} for row in read_csv(path)]


WORDS = (
    *("corpus", "condition", "control", "intervention", "measure", "adapter", "against"),
    *("system", "kind", "tag", "notes", "component", "said"),
)


def _number(text: str) -> int | float | str:
    if text.lstrip("-").isdigit():
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell what the system refuses about a run directory as an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"the run directory {path} cannot be written: {error.strerror or error}",
            given=error.filename,
            fix="make room, or choose a folder that you may write to with --out; what is finished stays",
        ) from error
