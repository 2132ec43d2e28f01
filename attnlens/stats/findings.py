"""Claims judged by stated rules: supported, refuted by a control, or inconclusive, with what the verdict rests on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

from attnlens.errors import BadInput

__all__ = ["RULES", "Against", "Finding", "Findings", "Outcome"]

Outcome = Literal["withstood", "failed", "undecided", "undefined"]

RULES = (
    "Supported: the claim has the direction that was claimed, its 95 % BCa bootstrap interval over utterances excludes "
    "0, its sign-flip p, corrected by Holm for all claims judged together, is at most 0.05, and it is larger than "
    "under every control that could be matched to it (sign flip of the paired difference, corrected likewise). "
    "Refuted by a control: the claim holds by itself, but not by more than under the control, which shows the same "
    "effect alone (p up to 0.05). Inconclusive: all else, too few utterances included. "
    "That something has no effect is supported where both one-sided tests put it within the margin that is named."
)


@dataclass(frozen=True, kw_only=True)
class Against:
    """How a claim stands against one control: the control's own effect, and whether the claim's is larger.

    ``outcome`` is ``withstood`` when the claim is larger, ``failed`` when it is not and the control shows the effect as
    well, ``undecided`` when neither can be said, ``undefined`` where there is no such control; ``why`` says more.
    """

    name: str
    outcome: Outcome
    estimate: float | None = None
    p: float | None = None
    p_difference: float | None = None
    why: str = ""

    def __str__(self) -> str:
        if self.outcome == "undefined":
            return f"{self.name}: not defined ({self.why})" if self.why else f"{self.name}: not defined"
        numbers = "" if self.estimate is None else f" {self.estimate:+.3g}"
        numbers += "" if self.p_difference is None else f", p of the difference {self.p_difference:.2g}"
        return f"{self.name}{numbers} ({self.outcome}{', ' + self.why if self.why else ''})"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One claim with its evidence; ``p`` is corrected for the claims that were judged with it, ``n`` counts utterances.

    >>> numbers = {"estimate": 0.4, "low": 0.3, "high": 0.5, "p": 0.002, "n": 40}
    >>> print(Finding(name="a", claim="Cutting it costs.", statistic="nats per token", verdict="supported", **numbers))
    supported: Cutting it costs.
        nats per token 0.4 [0.3, 0.5], p = 0.002; 40 utterances
    """

    name: str
    claim: str
    statistic: str
    verdict: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    p: float | None = None
    n: int = 0
    controls: tuple[Against, ...] = ()
    why: str = ""

    @property
    def evidence(self) -> str:
        """The numbers as one line."""
        parts = []
        if self.estimate is not None:
            ends = "" if self.low is None or self.high is None else f" [{self.low:.3g}, {self.high:.3g}]"
            p = "" if self.p is None else f", p = {self.p:.2g}"
            parts.append(f"{self.statistic} {self.estimate:.3g}{ends}{p}")
        parts.append(f"{self.n} utterance{'' if self.n == 1 else 's'}")
        parts += [str(one) for one in self.controls]
        return "; ".join([*parts, *([self.why] if self.why else [])])

    def __str__(self) -> str:
        return f"{self.verdict}: {self.claim}\n    {self.evidence}"


@dataclass(frozen=True)
class Findings(Sequence[Finding]):
    """What was found, in reading order; prints as plain sentences, is kept as ``findings.json``.

    >>> one = Finding(name="a", claim="It matters.", statistic="nats", verdict="inconclusive", why="2 are too few")
    >>> print(Findings((one,)))
    inconclusive: It matters.
        0 utterances; 2 are too few
    >>> Findings.from_json(Findings((one,)).to_json()) == Findings((one,))
    True
    """

    all: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.all)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.all)

    def __getitem__(self, which: Any) -> Any:
        """Return a finding by its place or by its name."""
        if isinstance(which, str):
            for one in self.all:
                if one.name == which:
                    return one
            raise KeyError(which)
        return Findings(self.all[which]) if isinstance(which, slice) else self.all[which]

    def __add__(self, other: Findings) -> Findings:
        return Findings((*self.all, *other.all))

    @property
    def supported(self) -> Findings:
        """Those that are supported."""
        return Findings(tuple(one for one in self.all if one.verdict == "supported"))

    def __str__(self) -> str:
        return "\n".join(map(str, self.all)) or "Nothing was claimed."

    def to_json(self) -> str:
        """Return the text of ``findings.json``."""
        rows = [{**asdict(one), "evidence": one.evidence} for one in self.all]
        return json.dumps({"rules": RULES, "findings": rows}, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: str = "this text") -> Findings:
        """Read what :meth:`to_json` wrote; also a plain list of objects with claim, evidence and verdict."""
        try:
            found = json.loads(text)
            rows = found["findings"] if isinstance(found, dict) else found
            return cls(tuple(_read(row, place) for place, row in enumerate(rows)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(
                f"{where} is no list of findings: {error}", fix="write objects with claim, evidence and verdict"
            ) from error

    def write(self, folder: Path | str) -> Path:
        """Write ``findings.json`` into a folder."""
        path = Path(folder) / "findings.json"
        path.write_text(self.to_json(), encoding="utf-8", newline="\n")
        return path

    @classmethod
    def read(cls, folder: Path | str) -> Findings | None:
        """Read the ``findings.json`` of a folder; None where there is none."""
        path = Path(folder) / "findings.json"
        return cls.from_json(path.read_text(encoding="utf-8"), where=str(path)) if path.exists() else None

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td><b>{escape(one.verdict)}</b></td><td>{escape(one.claim)}<br><small>{escape(one.evidence)}</small>"
            "</td></tr>"
            for one in self.all
        )
        return f"<table>{rows}</table><p><small>{escape(RULES)}</small></p>"


def _read(row: dict[str, Any], place: int) -> Finding:
    known = {name: row[name] for name in Finding.__dataclass_fields__ if name in row}
    controls = tuple(Against(**one) for one in known.pop("controls", ()))
    if "statistic" not in row:
        # Written by hand: its evidence is a sentence of its own.
        known |= {"why": str(row.get("evidence", "")), "statistic": ""}
    return Finding(
        **{"name": f"finding-{place}", "verdict": "", **known, "claim": str(row["claim"])}, controls=controls
    )
