"""Whisper as an acoustic model: N-best lists by beam search, scored again by teacher forcing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from attnlens.asr.nbest import Hypothesis, NBest
from attnlens.asr.vocabulary import tidy
from attnlens.data.audio import RATE
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput, UnknownName
from attnlens.models.fingerprint import fingerprint
from attnlens.models.memory import asking

__all__ = ["WhisperModel"]

_log = logging.getLogger(__name__)


class WhisperModel:
    """Whisper behind the same method as the CTC models.

    ``acoustic`` is the log-probability of the transcript's tokens and its end, given the sound and the prompt of
    language and task; Whisper's own language model is inside it. Sequences that write the same text are one hypothesis.

    Parameters
    ----------
    language
        Such as ``en``; None lets the model guess for each clip.
    """

    def __init__(self, model: Any, extractor: Any, tokenizer: Any, *, name: str, language: str | None = None) -> None:
        self.model, self.extractor, self.tokenizer = model, extractor, tokenizer
        self._name, self.language = name, language
        self._fingerprint = fingerprint(model)

    @property
    def name(self) -> str:
        """What tables call it."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """A hash of its weights."""
        return self._fingerprint

    @property
    def longest(self) -> float:
        """The seconds that the model reads."""
        return float(self.extractor.n_samples / RATE)

    def nbest(
        self,
        utterances: Sequence[Utterance],
        *,
        n: int = 10,
        max_new_tokens: int | None = None,
        tick: Callable[[int], None] | None = None,
    ) -> list[NBest]:
        """Return the N-best list of each utterance; clips that are longer than the model reads are refused first.

        A sequence that has not ended after ``max_new_tokens`` (None: as many as the model can write) is no transcript
        and is left out; a list that is empty for it is logged as a warning.
        """
        if n < 1:
            raise BadInput("an N-best list holds at least one", given=f"n={n}", fix="pass 1 or more")
        for one in utterances:
            if one.audio.seconds > self.longest:
                raise BadInput(
                    "a clip is longer than Whisper reads",
                    given=f"{one.id}: {one.audio.seconds:.1f} s",
                    present=f"{self.longest:.0f} s",
                    fix="cut the recording at pauses, or use a CTC model, which reads long audio in windows",
                )
        lists = []
        for number, one in enumerate(utterances, start=1):
            with asking(f"a beam of {n} on {one.id}", fix="pass a smaller n, or dtype='bfloat16'"):
                lists.append(NBest(one.id, self._one(one, n, max_new_tokens)))
            if not len(lists[-1]):
                _log.warning("no transcript of %r came to an end: its list is empty", one.id)
            if tick is not None:
                tick(number)
        return lists

    def _one(self, one: Utterance, n: int, max_new_tokens: int | None) -> tuple[Hypothesis, ...]:
        import torch
        from transformers import GenerationMixin

        made = self.extractor(one.audio.load(), sampling_rate=RATE, return_tensors="pt")
        features = made["input_features"].to(self.model.device, self.model.dtype)
        with torch.inference_mode():
            prompt = self._prompt(features)
            room = self.model.config.max_target_positions - len(prompt)
            # Whisper's own generate gives the best sequence n times instead of the n best.
            sequences = GenerationMixin.generate(
                self.model,
                input_features=features,
                decoder_input_ids=torch.tensor([prompt], device=features.device),
                decoder_attention_mask=torch.ones(1, len(prompt), dtype=torch.long, device=features.device),
                num_beams=n,
                num_return_sequences=n,
                length_penalty=0.0,
                do_sample=False,
                max_length=None,
                max_new_tokens=room if max_new_tokens is None else min(room, max_new_tokens),
            )
            scores = self._scores(features, sequences, len(prompt))
        summed: dict[str, float] = {}
        texts = self.tokenizer.batch_decode(sequences, skip_special_tokens=True)
        for text, score in zip(map(tidy, texts), scores, strict=True):
            if score is not None:
                summed[text] = float(np.logaddexp(summed.get(text, -np.inf), score))
        ordered = sorted(summed, key=lambda text: -summed[text])
        return tuple(Hypothesis(text, summed[text]) for text in ordered)

    @property
    def _end(self) -> int:
        end = self.model.generation_config.eos_token_id
        return int(end[0] if isinstance(end, list) else end)

    def _prompt(self, features: Any) -> list[int]:
        """Return the ids that are said to the model: start, language and task where it knows some, no time stamps."""
        told = self.model.generation_config
        ids = [int(told.decoder_start_token_id)]
        languages = getattr(told, "lang_to_id", None) or {}
        if self.language is not None:
            wanted = f"<|{self.language}|>"
            if wanted not in languages:
                raise UnknownName.among("language of Whisper", self.language, [name.strip("<|>") for name in languages])
            ids.append(int(languages[wanted]))
        elif languages:
            ids.append(int(self.model.detect_language(input_features=features)[0]))
        if languages:
            ids.append(int(told.task_to_id["transcribe"]))
        stamps = getattr(told, "no_timestamps_token_id", None)
        return ids if stamps is None else [*ids, int(stamps)]

    def _scores(self, features: Any, sequences: Any, prompt: int) -> list[float | None]:
        """Return the log-probability of what follows the prompt up to the first end; None where none comes."""
        import torch

        heard = self.model.get_encoder()(features).last_hidden_state.expand(len(sequences), -1, -1)
        mask = torch.ones_like(sequences[:, :-1])
        logits = self.model(
            encoder_outputs=(heard,), decoder_input_ids=sequences[:, :-1], decoder_attention_mask=mask
        ).logits
        steps = torch.log_softmax(logits.float(), -1)[:, prompt - 1 :]
        said = sequences[:, prompt:]
        picked = torch.gather(steps, 2, said[..., None])[..., 0].double().cpu().tolist()
        scores: list[float | None] = []
        for row, ids in zip(picked, said.tolist(), strict=True):
            scores.append(sum(row[: ids.index(self._end) + 1]) if self._end in ids else None)
        return scores
