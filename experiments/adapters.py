"""The adapters behind the paper's tuned rows, on the organism: how each is made, and which rows it stands beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ADAPTERS", "LANGUAGES", "LIGHT", "ROWS", "Adapter", "Row"]

RECIPES = Path("experiments") / "recipes" / "organism"
LANGUAGES = Path("build") / "recipes" / "other"
"""Where the other languages are, made by experiments/recipes/organism/speak.py."""
LIGHT = (
    "steps=60",
    "optimiser.rate=0.002",
    "optimiser.warmup=6",
    "evaluate_every=30",
    "save_every=30",
    "options.batch_size=4",
    "options.dev_episodes=18",
)
"""A quarter of the recipes' steps, and smaller batches: ten adapters in minutes. As the recipes stand: adapt.py."""


def shots(*counts: int) -> str:
    return f"options.shots={{{', '.join(f'{count}: 1' for count in counts)}}}"


def languages(*names: str) -> str:
    return f"options.corpora=[{', '.join(f'{LANGUAGES}/{name}/manifest.jsonl' for name in names)}]"


PLACES = {"projector": "model.multi_modal_projector", "encoder": "model.audio_tower"}
GENTLY = 0.05
"""Of the LoRA's rate: what weights that are trained whole can bear."""


def full(*modules: str) -> tuple[str, ...]:
    rates = ", ".join(f"{PLACES[one]}: {GENTLY}" for one in modules)
    return f"options.adapter.modules=[{', '.join(modules)}]", f"optimiser.rates={{{rates}}}"


@dataclass(frozen=True)
class Adapter:
    """A recipe with what is changed in it."""

    recipe: str
    changes: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """Return what stands behind `attnlens train`."""
        return [
            str(RECIPES / f"{self.recipe}.yaml"),
            *(word for one in (*LIGHT, *self.changes) for word in ("--set", one)),
        ]


ADAPTERS: Mapping[str, Adapter] = {
    "asr-ft": Adapter("asr-ft"),
    "tft": Adapter("tft"),
    "xft": Adapter("xft"),
    "xft-1-language": Adapter("xft", (languages("somali"),)),
    "xft-3-languages": Adapter("xft", (languages("somali", "occitan", "lingala"),)),
    "xft-projector": Adapter("xft", full("projector")),
    "xft-encoder": Adapter("xft", full("projector", "encoder")),
    "xft-1-5": Adapter("xft", (shots(1, 2, 3, 4, 5),)),
    "xft-fixed-5": Adapter("xft", (shots(5),)),
    "xft-fixed-10": Adapter("xft", (shots(10),)),
}


@dataclass(frozen=True)
class Row:
    """A run of a small spec, with an adapter or without, and which printed cells stand beside it."""

    spec: str
    adapter: str | None = None
    only: Mapping[str, str] = field(default_factory=dict)
    says: str = ""
    """What has to be said of it on the page."""
    keeps: Callable[[str], bool] = lambda _system: True
    """Which printed systems stand beside it."""

    @property
    def name(self) -> str:
        """Where the run lies, below the results' folder."""
        return self.spec if self.adapter is None else f"{self.spec}-{self.adapter}"


def tuned(system: str) -> bool:
    return system.startswith("phi4-")


FEWER = "Tuned on {} of 15 other languages, about the share of the paper's that {} of 143 are."
WHOLE = "What is beside the LoRA is trained whole, at a twentieth of its rate."
ROWS: Mapping[str, tuple[Row, ...]] = {
    "table3": (
        Row("table3", only={"model": "base"}),
        Row("table3", "xft", {"model": "xft"}),
        Row("table3", "tft", {"model": "tft"}),
    ),
    "table4": (Row("table4", "xft"),),
    "table5": (
        Row("table5-asr", only={"model": "base"}),
        Row("table5", only={"model": "base"}),
        Row("table5", "xft", {"model": "xft"}),
        Row("table5", "tft", {"model": "tft"}),
    ),
    "table6": (
        Row("table6", keeps=lambda system: not tuned(system)),
        Row("table6", "asr-ft", {"system": "phi4-asr-ft"}),
        Row("table6", "xft", {"system": "phi4-xft"}),
        Row("table6", "tft", {"system": "phi4-tft"}),
    ),
    "table7": (
        Row("table7", only={"training-languages": "none"}),
        Row("table7", "xft-1-language", {"training-languages": "8"}, says=FEWER.format(1, 8)),
        Row("table7", "xft-3-languages", {"training-languages": "32"}, says=FEWER.format(3, 32)),
        Row("table7", "xft", {"training-languages": "all"}, says="Tuned on all 15 other languages."),
    ),
    "table8": (Row("table8", "xft"),),
    "table10": (Row("table10", "asr-ft"),),
    "table12": (Row("table12", only={"model": "base"}), Row("table12", "xft", {"model": "xft"})),
    "table13": (Row("table13-audio"), Row("table13-random")),
    "table14": (
        Row("table14", "xft", {"trained": "lora"}),
        Row("table14", "xft-projector", {"trained": "lora and projector"}, says=WHOLE),
        Row("table14", "xft-encoder", {"trained": "lora, projector and encoder"}, says=WHOLE),
    ),
    "table15": (
        Row("table15", "xft-1-5", {"trained-shots": "1-5"}),
        Row("table15", "xft", {"trained-shots": "1-10"}),
        Row("table15", "xft-fixed-5", {"trained-shots": "fixed 5"}),
        Row("table15", "xft-fixed-10", {"trained-shots": "fixed 10"}),
    ),
    "figure2": (Row("figure2", "xft"),),
}
"""What stands beside each printed table; of a table that is not here, the run of its own name."""
