"""Train or fine-tune a CTC model on transcribed speech: the recipe ``acoustic-ctc``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from attnlens.asr.augment import changed_features, changed_waveform
from attnlens.asr.ctc import CtcNet
from attnlens.asr.ctc_checkpoint import Head, Trained, begin, save
from attnlens.asr.error_rate import count_errors, edit_distance
from attnlens.asr.vocabulary import Vocabulary, tidy
from attnlens.data.normalise import NORMALISERS
from attnlens.data.read import read_corpus
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["AcousticCtcRecipe", "Metric"]

Metric = Literal["cer", "wer"]
Clip = tuple[NDArray[np.float32], list[int]]


class AcousticCtcRecipe:
    """Learn the characters of a corpus' pool from its speech; dev metrics are the error rates of best paths.

    Parameters
    ----------
    corpora
        Paths of corpora. What is learnt comes from the pools alone; dev chooses the checkpoint, test is not read.
    model
        A folder or hub name to begin from: a CTC model, whose head is replaced, or a pretrained encoder. None makes a
        ``Wav2Vec2BertForCTC`` with random weights.
    head
        ``new``, or ``shared``: what a CTC model knows of characters that the corpus has too is kept.
    size
        Fields of the configuration when ``model`` is None, and the extractor's ``stride``.
    trained
        Which weights are trained: ``all``, ``adapter`` (MMS: new adapter layers and the head), ``head``. The
        convolutions of a model of waveforms are never trained.
    normaliser
        Applied to transcripts; see ``attnlens ls normalisers``.
    metric
        Which error rate of dev chooses the checkpoint and is what the spec's ``enough`` is about: of characters
        (``cer``) or of words (``wer``). Both are measured.
    batch_size
        Clips per batch, of like length.
    augment
        Whether tempo, throat, level and noise of the training clips vary.
    longest
        Seconds of the longest clip; longer ones are refused, not cut.
    save_as
        The type of the exported weights.
    """

    better: ClassVar[Literal["lower", "higher"]] = "lower"
    ahead: ClassVar[bool] = True

    def __init__(
        self,
        *,
        seed: int,
        device: str,
        corpora: Sequence[str],
        model: str | None = None,
        head: Head = "new",
        size: dict[str, Any] | None = None,
        trained: Trained = "all",
        normaliser: str = "none",
        metric: Metric = "cer",
        batch_size: int = 8,
        augment: Literal["on", "off"] = "on",
        longest: float = 30.0,
        save_as: Literal["float32", "float16"] = "float32",
    ) -> None:
        if not corpora:
            raise BadInput("there is nothing to train on", given="corpora: []", fix="name a corpus")
        if metric not in get_args(Metric):
            raise UnknownName.among("dev metric", metric, get_args(Metric))
        self.metric: str = metric
        self.clean = NORMALISERS[normaliser]
        read = [read_corpus(Path(one)) for one in corpora]
        pool = [one for corpus in read for one in corpus.pool]
        self.dev = [one for corpus in read for one in corpus.dev]
        self._require(pool, corpora, longest)
        vocabulary = Vocabulary.of(self._text(one) for one in pool)
        self.net: CtcNet = begin(model, vocabulary, head=head, size=size, trained=trained, device=device, seed=seed)
        self.batch_size, self.augment, self.save_as = batch_size, augment, save_as
        self.texts = [vocabulary.ids(self._text(one)) for one in pool]
        order = np.argsort([one.audio.seconds for one in pool], kind="stable")
        self.pool, self.order = pool, order
        self._heard: dict[str, NDArray[np.float32]] = {}
        self._dev_features = [self._features(one) for one in self.dev]

    @property
    def module(self) -> nn.Module:
        """The whole model."""
        return self.net.model

    def batch(self, rng: np.random.Generator) -> list[Clip]:
        """Draw clips around a drawn length, so that little is computed on padding."""
        near = min(len(self.order), 4 * self.batch_size)
        start = int(rng.integers(0, len(self.order) - near + 1))
        places = start + rng.choice(near, min(near, self.batch_size), replace=False)
        return [self._clip(int(self.order[place]), rng) for place in places]

    def loss(self, batch: list[Clip]) -> tuple[Tensor, dict[str, float]]:
        """Return the CTC loss, per character of each transcript."""
        import torch
        from torch.nn import functional

        logits, frames = self.net.logits(self.net.padded([features for features, _ in batch]))
        steps = torch.log_softmax(logits.float(), -1).transpose(0, 1)
        labels = torch.tensor([number for _, ids in batch for number in ids], device=logits.device)
        lengths = [len(ids) for _, ids in batch]
        # A clip that augmentation made too fast for its text has no alignment: it counts nothing, this once.
        loss = functional.ctc_loss(
            steps,
            labels,
            torch.tensor(frames),
            torch.tensor(lengths),
            blank=self.net.vocabulary.blank,
            zero_infinity=True,
        )
        return loss, {"characters": float(sum(lengths))}

    def evaluate(self) -> dict[str, float]:
        """Measure the error rates of the best paths on dev; unknown characters are errors like others."""
        texts = [tidy(self._text(one)) for one in self.dev]
        said: list[str] = []
        for start in range(0, len(self.dev), self.batch_size):
            said += self._best_paths(self._dev_features[start : start + self.batch_size])
        characters = sum(map(len, texts))
        unknown = sum(text.count(one) for text in texts for one in self.net.vocabulary.unknown(text))
        return {
            "cer": sum(map(edit_distance, texts, said)) / characters,
            "wer": count_errors(texts, said, normaliser="none").rate,
            "unknown": unknown / characters,
        }

    def export(self, folder: Path) -> None:
        """Write a checkpoint folder that ``load_acoustic`` and transformers read."""
        save(self.net, folder, dtype=self.save_as)

    def _text(self, one: Utterance) -> str:
        return self.clean(one.text)

    def _require(self, pool: Sequence[Utterance], corpora: Sequence[str], longest: float) -> None:
        for name, part in (("pool", pool), ("dev", self.dev)):
            if not part:
                raise BadInput(
                    f"no corpus has a {name} split",
                    given=", ".join(map(str, corpora)),
                    fix=f"give utterances the split {name!r}",
                )
        for one in (*pool, *self.dev):
            if not tidy(self._text(one)):
                raise BadInput(
                    "an utterance has no text to learn from",
                    given=one.id,
                    fix="train on transcribed speech; `attnlens data check` lists rows without text",
                )
            if one.audio.seconds > longest:
                raise BadInput(
                    "a clip is longer than is trained on",
                    given=f"{one.id}: {one.audio.seconds:.1f} s",
                    present=f"longest: {longest} s",
                    fix="cut the recording at pauses, or raise `longest`",
                )

    def _features(self, one: Utterance) -> NDArray[np.float32]:
        if one.id not in self._heard:
            made = self.net.features(one.audio.load(), name=one.id)
            self._heard[one.id] = made
        return self._heard[one.id]

    def _clip(self, number: int, rng: np.random.Generator) -> Clip:
        one, ids = self.pool[number], self.texts[number]
        if self.net.mels or self.augment == "off":
            plain = self._features(one)
            self._require_room(one, ids, len(plain))
            return (plain if self.augment == "off" else changed_features(plain, rng, mels=self.net.mels)), ids
        samples = one.audio.load()
        self._require_room(one, ids, len(samples))
        return self.net.features(changed_waveform(samples, rng), name=one.id), ids

    def _require_room(self, one: Utterance, ids: Sequence[int], rows: int) -> None:
        # Between two equal characters a blank must stand.
        doubled = sum(left == right for left, right in itertools.pairwise(ids))
        if self.net.frames(rows) < len(ids) + doubled:
            raise BadInput(
                "a transcript has more characters than its clip has frames",
                given=f"{one.id}: {len(ids)} characters, {doubled} of them doubled",
                present=f"{self.net.frames(rows)} frames",
                fix="mend the transcript, or leave the clip out",
            )

    def _best_paths(self, features: Sequence[NDArray[np.float32]]) -> list[str]:
        logits, frames = self.net.logits(self.net.padded(features))
        best = logits.argmax(-1).cpu().numpy()
        return [self.net.vocabulary.text(_collapsed(row[:count])) for row, count in zip(best, frames, strict=True)]


def _collapsed(path: NDArray[np.int64]) -> list[int]:
    kept = np.append(True, path[1:] != path[:-1]) if len(path) else np.zeros(0, dtype=bool)
    # The blank writes nothing, so it needs no leaving out.
    return path[kept].tolist()
