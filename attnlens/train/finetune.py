"""Fine-tune any wrapped speech LLM on episodes of corpora: the recipe ``episodes``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from attnlens.context.prompt import Condition
from attnlens.context.spans import Source
from attnlens.data.read import read_corpus
from attnlens.errors import BadInput
from attnlens.models.load import load
from attnlens.train.episodes import EpisodeBuilder, Task
from attnlens.train.example import IGNORED, Example, encode_example
from attnlens.train.recipe import Better

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["EpisodesRecipe"]


class EpisodesRecipe:
    """Train on prompts as they will be asked, one corpus per episode; the dev metric is bits per character.

    Parameters
    ----------
    model
        What ``attnlens.load`` takes.
    corpora
        Paths of corpora; demonstrations and queries come from the pool, dev prompts ask the dev split.
    shots, conditions, templates, retriever
        See :class:`EpisodeBuilder`. Weights by choice.
    trained
        Sources of the prompt whose tokens are predicted.
    batch_size
        Episodes per batch.
    dev_episodes
        How many dev prompts are measured, the same each time.
    """

    metric: ClassVar[str] = "bits_per_character"
    better: ClassVar[Better] = "lower"
    ahead: ClassVar[bool] = True

    def __init__(
        self,
        *,
        seed: int,
        device: str,
        model: str,
        corpora: Sequence[str],
        shots: Mapping[int, float] | None = None,
        conditions: Mapping[Condition, float] | None = None,
        templates: Mapping[str, float] | None = None,
        retriever: str = "random",
        trained: Sequence[Source] = ("output",),
        batch_size: int = 4,
        dev_episodes: int = 16,
    ) -> None:
        if not corpora:
            raise BadInput("there is nothing to train on", given="corpora: []", fix="name a corpus")
        given = {"shots": shots, "conditions": conditions, "templates": templates}
        self.builder = EpisodeBuilder(retriever=retriever, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
        read = [read_corpus(Path(one)) for one in corpora]
        self.tasks = [Task(one.name, one.pool) for one in read]
        self.dev_tasks = [Task(one.name, one.pool, one.dev) for one in read if one.dev]
        if not self.dev_tasks:
            raise BadInput(
                "no corpus has a dev split to choose the checkpoint by",
                given=", ".join(map(str, corpora)),
                fix="give utterances the split 'dev'",
            )
        for task in (*self.tasks, *self.dev_tasks):
            self.builder.require(task)
        self.lens = load(model, dtype="float32", device_map=device, seed=seed)
        self.seed, self.batch_size, self.dev_episodes, self.trained = seed, batch_size, dev_episodes, tuple(trained)
        end = self.lens.model.generation_config.eos_token_id
        self.end_token = int(end if isinstance(end, int) else end[0])

    @property
    def module(self) -> nn.Module:
        """The whole model."""
        return self.lens.model

    def batch(self, rng: np.random.Generator) -> list[Example]:
        """Draw episodes, each of one corpus."""
        return [self._example(self.tasks, rng, self.trained) for _ in range(self.batch_size)]

    def loss(self, batch: list[Example]) -> tuple[Tensor, dict[str, float]]:
        """Return the mean cross-entropy of the trained tokens."""
        total, count = self._nll(batch)
        return total / count, {"tokens": float(count)}

    def evaluate(self) -> dict[str, float]:
        """Measure bits per character of the answer on dev prompts that are the same each time."""
        rng = np.random.default_rng([self.seed, 1])
        bits = characters = 0.0
        for _ in range(self.dev_episodes):
            example = self._example(self.dev_tasks, rng, ("output",))
            bits += float(self._nll([example])[0]) / np.log(2)
            characters += len(example.encoded.prompt.target.text)
        return {self.metric: bits / characters}

    def export(self, folder: Path) -> None:
        """Write a checkpoint folder that ``attnlens.load`` and transformers read."""
        self.lens.model.save_pretrained(folder)
        self.lens.front.tokenizer.save_pretrained(folder)
        self.lens.front.extractor.save_pretrained(folder)

    def _example(self, tasks: Sequence[Task], rng: np.random.Generator, trained: tuple[Source, ...]) -> Example:
        prompt = self.builder.build(tasks[int(rng.integers(len(tasks)))], rng)
        return encode_example(prompt, self.lens.front, end_token=self.end_token, trained=trained)

    def _nll(self, batch: list[Example]) -> tuple[Tensor, int]:
        """Return the summed negative log-likelihood of the trained tokens, and their number."""
        import torch

        inputs = self.lens.back.inputs([one.encoded for one in batch])
        width = inputs["inputs_embeds"].shape[1]
        # Prompts are padded on the left.
        padded = [np.pad(one.targets, (width - len(one.targets), 0), constant_values=IGNORED) for one in batch]
        targets = torch.as_tensor(np.stack(padded), device=self.lens.device)
        logits = self.lens.back.logits(inputs, slice(None))
        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        return loss, int((targets != IGNORED).sum())
