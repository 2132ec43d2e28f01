"""One unit of work: what is shown, what should come out, and a name that says all of that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from attnlens.context.prompt import Prompt, stable_hash
from attnlens.run.spec import RunSpec

__all__ = ["Item", "item_id"]

VERSION = 3
"""Raised when what an item computes changes, so that results of both kinds never share a store."""


@dataclass(frozen=True)
class Item:
    """A prompt with its reference and its place in the plan; carries all that computing it needs, bar the model.

    ``asked`` is the number of shots in the spec; where a prompt did not fit, ``prompt.shots`` is smaller.
    ``positions`` counts the prompt with its reference.
    """

    id: str
    corpus: str
    speaker: str | None
    asked: int
    control: str
    seed: int
    prompt: Prompt
    positions: int
    transcribed: bool
    intervention: str = "none"

    @property
    def reference(self) -> str:
        """The text that is read along and compared with."""
        return self.prompt.target.text

    @property
    def changed(self) -> str:
        """What is changed, in the prompt or in the computation; ``none`` for the clean run."""
        return " with ".join(name for name in (self.control, self.intervention) if name != "none") or "none"

    @property
    def applied(self) -> str:
        """The controls with their seeds and options, as traces record them."""
        return "+".join(self.prompt.applied) or "none"

    def describe(self) -> str:
        """Name the item for a person."""
        prompt = self.prompt
        parts = [prompt.target.id, prompt.condition, f"{prompt.shots} shots"]
        parts += [self.control] if self.control != "none" else []
        parts += [self.intervention] if self.intervention != "none" else []
        parts += [f"seed {self.seed}"] if self.seed else []
        return ", ".join(parts)

    def coordinates(self) -> dict[str, Any]:
        """Return what a store's item axis says about it."""
        return {
            "item": self.id,
            "utterance": self.prompt.target.id,
            "condition": str(self.prompt.condition),
            "shots": self.prompt.shots,
            "control": self.applied,
            "seed": self.seed,
            "intervention": self.intervention,
            "prompt": self.prompt.digest,
        }

    def to_row(self) -> dict[str, Any]:
        """Return the planned half of the item's row in ``items.csv``."""
        said = self.coordinates()
        return {
            "item": said.pop("item"),
            "corpus": self.corpus,
            "language": self.prompt.target.language,
            "speaker": self.speaker or "",
            **said,
            "control": self.control,
            "applied": self.applied,
            "shots_asked": self.asked,
            "planned_positions": self.positions,
            "transcribed": "yes" if self.transcribed else "no",
            "reference": self.reference,
        }


def item_id(item: Item, spec: RunSpec) -> Item:
    """Return the item with the hash of everything that determines its result for an id.

    Counted: the digest of the prompt, the reference, where the item stands in the plan, and of the spec the model, what
    is measured and how answers are decoded. Not counted: the other items, versions and weights, which are compared for
    a run as a whole.
    """
    determined = {
        "version": VERSION,
        "model": spec.model.model_dump(mode="json"),
        "convention": spec.convention,
        "tracing": spec.tracing.model_dump(mode="json"),
        "batch": spec.decoding.batch,
        "answer": spec.decoding.max_new_tokens if item.transcribed else None,
        "reference": item.reference,
        "corpus": item.corpus,
        "asked": item.asked,
        **item.coordinates(),
    }
    determined["item"] = None
    return replace(item, id=stable_hash(determined))
