"""The SONAR text encoder through transformers, without fairseq2."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attnlens.context.retrieval.checkpoints import fingerprint, loaded, located, unreadable
from attnlens.errors import BadInput

if TYPE_CHECKING:
    import torch

__all__ = ["SonarTextEncoder", "masked_mean"]

BATCH = 32


def masked_mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average states [batch, positions, dimensions] over the positions whose mask [batch, positions] is 1.

    >>> import torch
    >>> masked_mean(torch.tensor([[[2.0], [4.0], [99.0]]]), torch.tensor([[1, 1, 0]])).tolist()
    [[3.0]]
    """
    weight = mask.unsqueeze(-1).to(states.dtype)
    # Not a product: what stands in padding may be infinite, and infinity times zero is not a number.
    return states.masked_fill(weight == 0, 0).sum(dim=1) / weight.sum(dim=1)


class SonarTextEncoder:
    """Sentence vectors as the MICL paper retrieves with: mean over the states of an NLLB-style encoder.

    The checkpoint is an ``M2M100Encoder`` with an ``NllbTokenizer``, as in ``cointegrated/SONAR_200_text_encoder``.
    ``src_lang`` is an NLLB code such as ``quy_Latn``; for a language that NLLB does not list, name a related one.
    """

    def __init__(self, name: str, *, src_lang: str | None, device: str = "cpu") -> None:
        if src_lang is None:
            raise BadInput(
                "the SONAR encoder needs to be told the language of the texts",
                fix="pass src_lang= with an NLLB code such as 'quy_Latn', of a related language if yours is not listed",
            )
        from transformers import NllbTokenizer
        from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder

        source, on_disk = located(name)
        self.name, self.src_lang, self.device = name, src_lang, device
        self.model: Any = loaded(M2M100Encoder.from_pretrained, name).to(device)
        try:
            self.tokenizer: Any = NllbTokenizer.from_pretrained(source, src_lang=src_lang, local_files_only=on_disk)
        except (OSError, ValueError) as error:
            raise unreadable(name, error) from error
        words, own = len(self.tokenizer), len(set(self.tokenizer.get_vocab()) - set(self.tokenizer.get_added_vocab()))
        # Without its files the tokeniser is built empty and reads every text as unknown tokens, silently.
        if own == 0 or words > self.model.config.vocab_size:
            raise BadInput(
                f"the folder or model {name!r} does not hold the tokeniser of its encoder",
                given=f"a tokeniser of {own} pieces and {words - own} special tokens",
                present=f"an encoder of {self.model.config.vocab_size} tokens",
                fix="download tokenizer.json and tokenizer_config.json too",
            )
        if self.tokenizer.convert_tokens_to_ids(src_lang) in (None, self.tokenizer.unk_token_id):
            raise BadInput(
                f"the SONAR tokeniser knows no language {src_lang!r}",
                present="NLLB codes: language and script, such as eng_Latn, quy_Latn, azj_Latn",
                fix="pass one of those as src_lang=",
            )

    @cached_property
    def identity(self) -> str:
        """Return the kind of encoder, its language and a hash of its weights."""
        return f"sonar:{self.src_lang}:{fingerprint(self.model)}"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [texts, dimensions]; texts are batched with texts of their length, so that little is padding."""
        import torch

        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        vectors = np.empty((len(texts), self.model.config.d_model), dtype=np.float32)
        limit = self.model.config.max_position_embeddings
        for begin in range(0, len(order), BATCH):
            rows = order[begin : begin + BATCH]
            batch = self.tokenizer([texts[row] for row in rows], padding=True, return_tensors="pt").to(self.device)
            if batch["input_ids"].shape[1] > limit:
                longest = max((texts[row] for row in rows), key=len)
                raise BadInput(
                    f"a text is longer than the encoder {self.name!r} can read",
                    given=f"{batch['input_ids'].shape[1]} tokens: {longest[:40]!r}...",
                    present=f"at most {limit} tokens",
                    fix="shorten the utterance",
                )
            with torch.inference_mode():
                states = self.model(**batch).last_hidden_state
                vectors[rows] = masked_mean(states.float(), batch["attention_mask"]).cpu().numpy()
        return vectors
