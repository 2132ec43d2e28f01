"""Fine-tune any wrapped speech LLM on episodes of corpora: what the recipes of adaptation share."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from attnlens.context.prompt import Condition, PairOrder
from attnlens.context.retrieval.eligible import Duplicates
from attnlens.context.spans import Source
from attnlens.errors import BadInput
from attnlens.models.adapters import BASE
from attnlens.models.fingerprint import bare_fingerprint
from attnlens.models.load import load
from attnlens.train.adapter import AdapterSpec, export_adapter, make_trainable
from attnlens.train.example import IGNORED, Ends, Example, encode_example
from attnlens.train.features import KeptFeatures
from attnlens.train.ranks import RankSchedule
from attnlens.train.recipe import Better
from attnlens.train.tasks import Draw, read_mixture

if TYPE_CHECKING:
    from torch import Tensor, nn

    from attnlens.models.speechlm import SpeechLM

__all__ = ["EpisodesRecipe"]


class EpisodesRecipe:
    """Train on prompts as they will be asked, one corpus per episode; the dev metric is bits per character.

    Parameters
    ----------
    model
        What ``attnlens.load`` takes.
    corpora
        Paths of corpora; demonstrations and queries come from the pool, dev prompts ask the dev split.
    tasks
        Several tasks in the place of ``corpora``; see :func:`~attnlens.train.tasks.read_mixture`.
    draw
        ``corpora``: every corpus is as likely. ``utterances``: every utterance.
    shots, conditions, templates, pair_orders, retriever, duplicates
        See :class:`EpisodeBuilder`. Weights by choice.
    adapter
        See :class:`~attnlens.train.adapter.AdapterSpec`; without it the whole model is trained.
    start
        The adapter to begin with: a folder, or ``none`` for the bare model where a checkpoint holds one.
    trained
        Sources of the prompt whose tokens are predicted, and no others.
    ends
        Whether the token after each of them is predicted too.
    batch_size
        Episodes per batch.
    dev_episodes
        How many dev prompts are measured, the same each time.
    dtype
        Of the frozen weights; what is trained is kept in float32.
    checkpointing
        ``on`` computes activations of the decoder's layers again instead of keeping them.
    """

    metric: ClassVar[str] = "bits_per_character"
    better: ClassVar[Better] = "lower"
    ahead: ClassVar[bool] = True

    def __init__(
        self,
        *,
        seed: int,
        device: str,
        steps: int,
        model: str,
        corpora: Sequence[str] | None = None,
        tasks: Mapping[str, Mapping[str, Any]] | None = None,
        draw: Draw = "corpora",
        target_languages: Sequence[str] = (),
        overlap: Literal["refuse", "allow"] = "refuse",
        shots: Mapping[int, float] | None = None,
        conditions: Mapping[Condition, float] | None = None,
        templates: Mapping[str, float] | None = None,
        pair_orders: Mapping[PairOrder, float] | None = None,
        retriever: str = "random",
        duplicates: Duplicates = "exclude",
        adapter: Mapping[str, Any] | None = None,
        start: str | None = None,
        trained: Sequence[Source] = ("output",),
        ends: Ends = "with-end",
        batch_size: int = 4,
        dev_episodes: int = 16,
        dtype: str = "float32",
        revision: str | None = None,
        checkpointing: Literal["off", "on"] = "off",
    ) -> None:
        if (tasks is None) == (corpora is None):
            raise BadInput(
                "corpora and tasks are two ways to say the same thing" if tasks else "there is nothing to train on",
                fix="name corpora, or tasks that name theirs",
            )
        if corpora is not None and not corpora:
            raise BadInput("there is nothing to train on", given="corpora: []", fix="name a corpus")
        asked = {
            "shots": shots,
            "conditions": conditions,
            "templates": templates,
            "pair_orders": pair_orders,
            "retriever": retriever,
            "duplicates": duplicates,
        }
        common = {key: value for key, value in asked.items() if value is not None}
        self.spec = AdapterSpec(**(adapter or {"modules": ["all"]}))
        self.mixture, self.dev = read_mixture(tasks or {"corpora": {"corpora": corpora}}, common=common, draw=draw)
        self.target_languages, self.overlap, self.steps = tuple(target_languages), overlap, steps
        self.trained, self.ends = tuple(trained), ends
        self.check()
        self.lens = load(model, dtype=dtype, device_map=device, seed=seed, revision=revision, adapter=start)
        self.check_model(self.lens)
        self.base = _described(self.lens)
        self.config = make_trainable(self.lens, self.spec, steps=steps)
        self.keeps: Literal["all", "trained"] = "all" if self.config is None else "trained"
        self.ranks = RankSchedule(self.lens.model, self.config) if self.spec.kind == "adalora" else None
        self.seed, self.batch_size, self.dev_episodes = seed, batch_size, dev_episodes
        end = self.lens.model.generation_config.eos_token_id
        self.end_token = int(end if isinstance(end, int) else end[0])
        self.ears = KeptFeatures(self.lens.front) if not hasattr(self.lens.front, "encode") else None
        for mixture in (self.mixture, self.dev):
            for part in mixture.parts:
                for task in part.tasks:
                    part.builder.prepare(task)
        if checkpointing == "on":
            inner = self.lens.model
            # The name changed within transformers 5.
            enable = getattr(inner, "activation_checkpointing_enable", None) or inner.gradient_checkpointing_enable
            enable({"use_reentrant": False})
        self._still = _without_learning(self.lens.model)

    def check(self) -> None:
        """Refuse, before anything is loaded, what a recipe of a narrower kind is not."""

    def check_model(self, lens: SpeechLM) -> None:
        """Refuse a model that a recipe of a narrower kind is not for."""

    @property
    def module(self) -> nn.Module:
        """The whole model; what is frozen in it stays as it is."""
        return self.lens.model

    def batch(self, rng: np.random.Generator) -> list[Example]:
        """Draw episodes, each of one task and one corpus."""
        return [self._example(self.mixture.build(rng), self.trained, self.ends) for _ in range(self.batch_size)]

    def loss(self, batch: list[Example]) -> tuple[Tensor, dict[str, float]]:
        """Return the mean cross-entropy of the trained tokens."""
        # Statistics of frozen layers (batch norm) would drift with everything that is heard.
        for module in self._still:
            module.eval()
        border = self.lens.cache_border
        # Prompts beyond the border are rotated otherwise, which in one batch would act on all.
        sides = [[one for one in batch if (border is not None and len(one.targets) > border) == far] for far in (0, 1)]
        found = [self._nll(side) for side in sides if side]
        total, count = found[0]
        for more, number in found[1:]:
            total, count = total + more, count + number
        figures = {"tokens": float(count), "positions": float(sum(len(one.targets) for one in batch))}
        loss = total / count
        return (loss if self.ranks is None else loss + self.ranks.penalty()), {"nll": float(loss.detach()), **figures}

    def evaluate(self) -> dict[str, float]:
        """Measure bits per character of the answer on dev prompts that are the same each time."""
        rng = np.random.default_rng([self.seed, 1])
        bits = characters = 0.0
        for _ in range(self.dev_episodes):
            example = self._example(self.dev.build(rng), ("output",), "with-end")
            bits += float(self._nll([example])[0]) / math.log(2)
            characters += len(example.encoded.prompt.target.text)
        return {self.metric: bits / characters}

    def after_step(self, step: int, figures: dict[str, float]) -> str | None:
        """Let AdaLoRA's ranks fall."""
        if self.ranks is not None:
            self.ranks.after_step(step)
        return None

    def state(self) -> dict[str, Any]:
        """Return what AdaLoRA remembers."""
        return {} if self.ranks is None else self.ranks.state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Take it back."""
        if self.ranks is not None:
            self.ranks.set_state(state)

    def export(self, folder: Path) -> None:
        """Write an adapter as peft has it, or without one a checkpoint folder; ``attnlens.load`` reads both."""
        if self.config is None:
            self.lens.model.save_pretrained(folder)
            self.lens.front.tokenizer.save_pretrained(folder)
            self.lens.front.extractor.save_pretrained(folder)
            return
        export_adapter(self.lens.model, folder, name=self.lens.name)
        (folder / BASE).write_text(json.dumps({"base": self.base}, indent=2) + "\n", encoding="utf-8")

    def provenance(self) -> dict[str, Any]:
        """Return what a checkpoint says of its origin besides the spec."""
        return {"base": self.base, "languages": list(self.mixture.languages)}

    def _example(self, prompt: Any, trained: tuple[Source, ...], ends: Ends) -> Example:
        made = encode_example(
            prompt, self.lens.front, end_token=self.end_token, trained=trained, ends=ends, ears=self.ears
        )
        self.lens.require_room(made.encoded)
        return made

    def _nll(self, batch: list[Example]) -> tuple[Tensor, int]:
        """Return the summed negative log-likelihood of the trained tokens, and their number."""
        import torch

        inputs = self.lens.back.inputs([one.encoded for one in batch])
        width = max(len(one.targets) for one in batch)
        # Prompts are padded on the left.
        padded = np.stack(
            [np.pad(one.targets, (width - len(one.targets), 0), constant_values=IGNORED) for one in batch]
        )
        rows = np.flatnonzero((padded != IGNORED).any(0))
        if not len(rows):
            raise BadInput(
                "no token of a batch is trained",
                given=f"trained: {list(self.trained)}",
                fix="choose sources that the conditions show",
            )
        targets = torch.as_tensor(padded[:, rows], device=self.lens.device)
        # Only rows that predict something are unembedded: a vocabulary is a hundred times as wide as a state.
        logits = self.lens.back.logits(inputs, torch.as_tensor(rows, device=self.lens.device))
        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        return loss, int((padded != IGNORED).sum())


def _described(lens: SpeechLM) -> dict[str, Any]:
    return {"model": lens.name, "weights": bare_fingerprint(lens.model), "dtype": str(lens.model.dtype)}


def _without_learning(model: Any) -> list[Any]:
    """Return the modules with running statistics that nothing trains."""
    return [
        module
        for module in model.modules()
        if getattr(module, "running_mean", None) is not None
        and not any(parameter.requires_grad for parameter in module.parameters())
    ]
