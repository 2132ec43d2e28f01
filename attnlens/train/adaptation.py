"""The recipes of adaptation by name: each is episodes with what its paper fixes held, and nothing else decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnlens.errors import BadInput, listing
from attnlens.train.finetune import EpisodesRecipe
from attnlens.train.tasks import refuse_overlap, require_within

if TYPE_CHECKING:
    from attnlens.models.speechlm import SpeechLM

__all__ = ["AsrFt", "SiclAt", "Smile", "Tft", "Xft"]


class AsrFt(EpisodesRecipe):
    """Transcription as usual: no demonstrations."""

    def check(self) -> None:
        """Refuse demonstrations."""
        shown = [str(part.builder.most_shots) for part in self.mixture.parts if part.builder.most_shots]
        if shown:
            raise BadInput(
                "asr-ft shows no demonstrations",
                given=f"up to {listing(shown)} shots",
                fix="say shots: {0: 1}, or use the recipe tft or xft",
            )


class Tft(EpisodesRecipe):
    """Transcription with demonstrations, in the target language: the weights see the language."""

    def check(self) -> None:
        """Refuse other languages, and a recipe that shows nothing."""
        _require_targets(self, "tft")
        _require_shots(self, "tft")
        require_within(self.mixture.languages, self.target_languages)


class Xft(EpisodesRecipe):
    """Transcription with demonstrations, in other languages alone: the weights see how to use demonstrations."""

    def check(self) -> None:
        """Refuse the target languages and their macro-languages, unless the spec allows the overlap."""
        _require_targets(self, "xft")
        _require_shots(self, "xft")
        if self.overlap == "refuse":
            refuse_overlap(self.mixture.languages, self.target_languages)


class SiclAt(EpisodesRecipe):
    """Several tasks, all with demonstrations: what is learnt is to learn from them, not a task."""

    def check(self) -> None:
        """Refuse a recipe that shows nothing."""
        _require_shots(self, "sicl-at")


class Smile(EpisodesRecipe):
    """Whisper with recordings laid end to end, loss on the target's tokens alone, ranks that fall (AdaLoRA)."""

    def check(self) -> None:
        """Refuse what is not the published training."""
        _require_shots(self, "smile")
        conditions = {name for part in self.mixture.parts for name in part.builder.conditions}
        if conditions != {"micl"}:
            raise BadInput("smile trains on pairs", given=listing(sorted(conditions)), fix="say conditions: {micl: 1}")
        if self.spec.kind != "adalora":
            raise BadInput("smile trains by AdaLoRA", given=f"adapter.kind: {self.spec.kind}", fix="say kind: adalora")
        if self.trained != ("output",):
            raise BadInput(
                "smile trains the target's tokens alone", given=f"trained: {list(self.trained)}", fix="leave it out"
            )

    def check_model(self, lens: SpeechLM) -> None:
        """Refuse another family than Whisper."""
        if lens.family != "whisper":
            raise BadInput(
                "smile is a way to train Whisper",
                given=f"{lens.name}, of the family {lens.family}",
                fix="name a Whisper checkpoint, or use the recipe xft",
            )


def _require_targets(recipe: EpisodesRecipe, name: str) -> None:
    if not recipe.target_languages:
        raise BadInput(
            f"{name} is told by its target languages, and none is named",
            fix="say target_languages: [quy], the languages that the adapter is for",
        )


def _require_shots(recipe: EpisodesRecipe, name: str) -> None:
    if not any(part.builder.most_shots for part in recipe.mixture.parts):
        raise BadInput(
            f"{name} shows demonstrations, and none are asked for", given="shots: 0", fix="add shots above 0"
        )
