"""A family's tokenizer and feature extractor behind one interface: what encoding needs, and no weights."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import Features
from attnlens.context.pieces import Markup
from attnlens.data.audio import RATE
from attnlens.errors import BadInput, UnsupportedModel

__all__ = ["BaseFrontEnd", "frames_by_mask"]


class BaseFrontEnd(ABC):
    """What all families share. A family sets ``markup`` and says how long its audio gets and what its features are.

    ``tokenizer`` and ``extractor`` are transformers' own objects; ``config`` is the model's configuration.
    """

    family: ClassVar[str]
    markup: ClassVar[Markup]

    def __init__(self, tokenizer: Any, extractor: Any, config: Any) -> None:
        self.tokenizer = tokenizer
        self.extractor = extractor
        self.config = config
        self.audio_token_id = self._audio_token_id()
        self._markup_ids = functools.lru_cache(maxsize=256)(self._tokenise_markup)
        # A transcript stands in many prompts; a tokenizer's call costs more than its work on a short text.
        self._content_ids = functools.lru_cache(maxsize=8192)(self._tokenise_content)

    @property
    def context_length(self) -> int | None:
        """How many positions the model's text decoder was made for, when its configuration says."""
        text = self.config.get_text_config(decoder=True)
        return getattr(text, "max_position_embeddings", None)

    def tokenise(self, text: str, *, kind: Literal["markup", "content"]) -> list[int]:
        """Return the ids of one piece; what came from data is never read as special tokens."""
        if kind == "markup":
            return list(self._markup_ids(text))
        return list(self._content_ids(text))

    def strings(self, ids: NDArray[np.int64]) -> list[str]:
        """Return each token as a person would read it."""
        return [self.tokenizer.decode([int(token)]) for token in ids]

    @abstractmethod
    def audio_positions(self, samples: int) -> int:
        """Return how many positions a clip of so many samples fills."""

    @abstractmethod
    def features(self, samples: NDArray[np.float32]) -> Features:
        """Extract the features of one clip [samples]."""

    def refuse_longer(self, samples: int, limit: int) -> None:
        """Refuse a clip that the family's extractor would cut without a word."""
        if samples > limit:
            raise BadInput(
                f"a clip is longer than {self.family} can hear",
                given=f"{samples / RATE:.2f} s",
                present=f"at most {limit / RATE:.0f} s; its extractor would cut the rest off silently",
                fix="cut the recording into utterances (start and end columns)",
            )

    def _tokenise_markup(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _tokenise_content(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def _audio_token_id(self) -> int:
        placeholder = self.markup.audio[1]
        ids = self._tokenise_markup(placeholder)
        declared = getattr(self.config, "audio_token_id", None)
        if len(ids) != 1 or (declared is not None and ids[0] != declared):
            raise UnsupportedModel(
                f"the tokenizer does not know {self.family}'s audio placeholder {placeholder!r}",
                given=f"ids {list(ids)}",
                present=f"the configuration says {declared}",
                fix="load tokenizer and configuration from the same checkpoint",
            )
        return ids[0]


def frames_by_mask(extractor: Any, samples: NDArray[np.float32], *, padding: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return log-mel features [1, mels, frames] of one clip and their mask [1, frames], by a Whisper-like extractor.

    Clips go through one at a time: padded together, the same clip would get another number of frames.
    """
    made = extractor(
        samples,
        sampling_rate=RATE,
        padding=padding,
        truncation=False,
        return_attention_mask=True,
        return_tensors="np",
    )
    return np.asarray(made["input_features"]), np.asarray(made["attention_mask"])
