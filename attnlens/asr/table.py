"""The table of one language as data: every system between its baselines and bounds, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from attnlens.asr.comparison import Comparison
from attnlens.asr.error_rate import ErrorCounts
from attnlens.stats.results import Interval

__all__ = ["ACOUSTIC", "Kind", "Row", "SelectionTable"]

Kind = Literal["baseline", "rule", "other", "bound"]
ACOUSTIC = "acoustic 1-best"
INTERVALS = ("wer_interval", "interval", "gap_interval")


@dataclass(frozen=True, eq=False, kw_only=True)
class Row:
    """One system: its transcripts, word and character errors, and how it compares with the acoustic 1-best.

    Transcripts and counts hold all utterances once for each of the table's seeds, block after block.

    ``rate`` is the word error rate with its interval, None where there are too few utterances for one.
    ``gap`` is the share of the way from the acoustic 1-best to the oracle that was gone, with its interval;
    ``gap_recovered`` its value alone, None where the oracle is no better.
    """

    system: str
    kind: Kind
    transcripts: tuple[str, ...]
    words: ErrorCounts
    characters: ErrorCounts
    comparison: Comparison | None
    gap_recovered: float | None
    gap: Interval | None
    rate: Interval | None = None
    tag: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class SelectionTable:
    """The rows of one language, with the size of what they were measured on.

    ``curves`` gives the word error rate of rules and oracle with every list cut to its first 1, 2, 5 ... hypotheses;
    tuned weights stay those of the whole lists. ``seeds`` says with how many draws of demonstrations it was measured:
    rates are means over them, and what intervals and tests draw are utterances with all their transcripts.
    """

    language: str
    rows: tuple[Row, ...]
    normaliser: str
    hypotheses: float
    empty_lists: int
    curves: Mapping[str, Mapping[int, float]]
    seeds: int = 1

    @property
    def utterances(self) -> int:
        """How many utterances, each counted once."""
        return len(self.rows[0].words) // self.seeds

    @property
    def words(self) -> int:
        """How many words were said in them."""
        return int(self.rows[0].words.length.sum()) // self.seeds

    def __getitem__(self, system: str) -> Row:
        for row in self.rows:
            if row.system == system:
                return row
        raise KeyError(system)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON output has them."""
        rows = []
        for row in self.rows:
            found = row.comparison
            rows.append(
                {
                    "system": row.system,
                    "kind": row.kind,
                    "tag": row.tag,
                    "wer": row.words.rate,
                    "wer_interval": _ends(row.rate),
                    "cer": row.characters.rate,
                    "capped_utterance_wer": row.words.capped_utterance_rate,
                    "difference": None if found is None else found.system_rate - found.baseline_rate,
                    "interval": None if found is None else _ends(found.interval),
                    "p": None if found is None or found.randomisation is None else float(found.randomisation.p),
                    "p_holm": None if found is None else found.p_holm,
                    "mapsswe_z": None if found is None or found.mapsswe is None else found.mapsswe.z,
                    "mapsswe_p": None if found is None or found.mapsswe is None else found.mapsswe.p,
                    "detectable": None
                    if found is None or found.detectable is None
                    else float(found.detectable.difference),
                    "gap_recovered": row.gap_recovered,
                    "gap_interval": _ends(row.gap),
                    "notes": [] if found is None else list(found.notes),
                }
            )
        return {
            "language": self.language,
            "normaliser": self.normaliser,
            "utterances": self.utterances,
            "words": self.words,
            "seeds": self.seeds,
            "hypotheses_per_list": self.hypotheses,
            "empty_lists": self.empty_lists,
            "curves": {name: {str(n): rate for n, rate in curve.items()} for name, curve in self.curves.items()},
            "rows": rows,
        }

    def to_rows(self, *, corpus: str) -> list[dict[str, Any]]:
        """Return one flat row per system, as a table of a run directory has them; what is not known is empty text."""
        told = self.to_dict()
        rows = []
        for row in told["rows"]:
            ends = {
                f"{name}_{end}": None if row[key] is None else row[key][place]
                for name, key in (
                    ("wer", "wer_interval"),
                    ("difference", "interval"),
                    ("gap_recovered", "gap_interval"),
                )
                for place, end in enumerate(("low", "high"))
            }
            plain = {name: value for name, value in row.items() if name not in ("notes", *INTERVALS)}
            sizes = {
                name: told[name] for name in ("utterances", "words", "seeds", "hypotheses_per_list", "empty_lists")
            }
            whole = {"corpus": corpus, **plain, **ends, **sizes, "notes": "; ".join(row["notes"])}
            rows.append({name: "" if value is None else value for name, value in whole.items()})
        return rows

    def to_markdown(self) -> str:
        """Return the table as Markdown, with a line below that says what it was measured on."""
        lines = [
            "| system | WER % | CER % | change of WER, points [95 %] | p | Holm p | MAPSSWE z | oracle gap recovered |",
            "|---|---|---|---|---|---|---|---|",
        ]
        smallest = []
        for row in self.rows:
            name = row.system + (f" ({row.tag})" if row.tag else "")
            cells = [name, f"{100 * row.words.rate:.2f}", f"{100 * row.characters.rate:.2f}", "", "", "", "", ""]
            if (found := row.comparison) is not None:
                cells[3] = f"{100 * (found.system_rate - found.baseline_rate):+.2f}"
                if (interval := found.interval) is not None:
                    cells[3] += f" [{100 * interval.low:+.2f}, {100 * interval.high:+.2f}]"
                cells[4] = "" if found.randomisation is None else f"{found.randomisation.p:.4f}"
                cells[5] = "" if found.p_holm is None else f"{found.p_holm:.4f}"
                cells[6] = "" if found.mapsswe is None else f"{found.mapsswe.z:.2f}"
                if found.detectable is not None:
                    smallest.append(100 * float(found.detectable.difference))
            if row.gap_recovered is not None and row.kind in ("rule", "other"):
                cells[7] = f"{row.gap_recovered:.2f}"
                cells[7] += "" if row.gap is None else f" [{row.gap.low:.2f}, {row.gap.high:.2f}]"
            lines.append("| " + " | ".join(cells) + " |")
        told = f"{self.language}: {self.utterances:,} utterances, {self.words:,} words, "
        told += f"{self.seeds} seeds of demonstrations, " if self.seeds > 1 else ""
        told += f"{self.hypotheses:.1f} hypotheses per list"
        told += f", {self.empty_lists} lists empty" if self.empty_lists else ""
        if smallest:
            told += f"; smallest change found with 80 % power {min(smallest):.2f} to {max(smallest):.2f} points"
        notes = dict.fromkeys(note for row in self.rows if row.comparison for note in row.comparison.notes)
        return "\n".join([*lines, "", told + f"; normaliser {self.normaliser}", *notes, "", *self._curves()])

    def _curves(self) -> list[str]:
        sizes = sorted({n for curve in self.curves.values() for n in curve})
        head = f"| WER % of the first N | {' | '.join(map(str, sizes))} |"
        lines = [
            f"| {name} | {' | '.join(f'{100 * curve[n]:.2f}' for n in sizes)} |" for name, curve in self.curves.items()
        ]
        return [head, "|---" * (len(sizes) + 1) + "|", *lines]


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [float(interval.low), float(interval.high)]
