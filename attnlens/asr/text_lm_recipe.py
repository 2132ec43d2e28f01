"""Train a small transformer on the texts of a pool: the recipe ``text-lm``."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from attnlens.data.normalise import NORMALISERS
from attnlens.data.read import read_corpus
from attnlens.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["TextLmRecipe", "character_tokenizer"]

PAD, BEGIN, END = "<|pad|>", "<|begin|>", "<|end|>"
IGNORED = -100


def character_tokenizer(texts: Sequence[str]) -> Any:
    """Return a tokenizer with one token for each character of the texts, and bytes for any other.

    >>> tokenizer = character_tokenizer(["ña ka"])
    >>> tokenizer.tokenize("kañ z"), tokenizer.decode(tokenizer("kañ z")["input_ids"])
    (['k', 'a', 'ñ', ' ', '<0x7A>'], 'kañ z')
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    characters = sorted(set(unicodedata.normalize("NFC", "".join(texts))))
    symbols = [PAD, BEGIN, END, *characters, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(vocab={one: i for i, one in enumerate(symbols)}, merges=[], byte_fallback=True))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in symbols[:3]])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, bos_token=BEGIN, eos_token=END)


class TextLmRecipe:
    """Learn to predict the characters of a pool's texts; the dev metric is bits per character.

    The pool of one language is small: what is learnt is chosen by dev, so pass ``patience`` to the training spec. The
    exported folder is a checkpoint of transformers; read it with ``load_causal_lm(folder, separator=None)``.

    Parameters
    ----------
    corpora
        Paths of corpora of one language; texts come from the pools, dev chooses the checkpoint, test is not read.
    normaliser
        Applied to texts; that of the hypotheses which will be scored.
    width, layers, heads, dropout, context
        The transformer; texts longer than ``context`` tokens are refused.
    batch_size
        Texts per batch.
    """

    metric: ClassVar[str] = "bits_per_character"
    better: ClassVar[Literal["lower", "higher"]] = "lower"
    ahead: ClassVar[bool] = True

    def __init__(
        self,
        *,
        seed: int,
        device: str,
        corpora: Sequence[str],
        normaliser: str = "basic-unicode",
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.2,
        context: int = 512,
        batch_size: int = 16,
    ) -> None:
        import torch
        from transformers import GPT2Config, GPT2LMHeadModel

        if not corpora:
            raise BadInput("there is nothing to train on", given="corpora: []", fix="name a corpus")
        clean = NORMALISERS[normaliser]
        read = [read_corpus(Path(one)) for one in corpora]
        pool, dev = ([clean(one.text) for corpus in read for one in part(corpus)] for part in (_pool, _dev))
        if not any(pool) or not any(dev):
            raise BadInput(
                "the language model needs texts to learn from and texts to be chosen by",
                given=f"{len(pool)} in the pools, {len(dev)} in dev",
                fix="give utterances the splits 'pool' and 'dev'",
            )
        self.tokenizer = character_tokenizer(pool)
        self.pool, self.dev = ([self._ids(text) for text in texts if text] for texts in (pool, dev))
        self.characters = sum(map(len, dev))
        longest = max(map(len, (*self.pool, *self.dev)))
        if longest > context:
            raise BadInput(f"a text has {longest} tokens", present=f"context: {context}", fix="raise context")
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=len(self.tokenizer),
            n_positions=context,
            n_embd=width,
            n_layer=layers,
            n_head=heads,
            resid_pdrop=dropout,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            bos_token_id=self.tokenizer.bos_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        self.model: Any = GPT2LMHeadModel(config).to(device)
        self.batch_size = batch_size

    @property
    def module(self) -> nn.Module:
        """The whole model."""
        return self.model

    def batch(self, rng: np.random.Generator) -> list[list[int]]:
        """Draw texts of the pool."""
        return [self.pool[int(place)] for place in rng.integers(len(self.pool), size=self.batch_size)]

    def loss(self, batch: list[list[int]]) -> tuple[Tensor, dict[str, float]]:
        """Return the mean cross-entropy of characters and ends."""
        total, tokens = self._nll(batch)
        return total / tokens, {"tokens": float(tokens)}

    def evaluate(self) -> dict[str, float]:
        """Measure bits per character of the whole of dev, ends included."""
        nats = sum(
            float(self._nll(self.dev[start : start + self.batch_size])[0])
            for start in range(0, len(self.dev), self.batch_size)
        )
        return {self.metric: nats / float(np.log(2)) / self.characters}

    def export(self, folder: Path) -> None:
        """Write a checkpoint folder that :func:`attnlens.asr.causal_lm.load_causal_lm` and transformers read."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _ids(self, text: str) -> list[int]:
        own = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [self.tokenizer.bos_token_id, *own, self.tokenizer.eos_token_id]

    def _nll(self, texts: list[list[int]]) -> tuple[Tensor, int]:
        import torch

        width = max(map(len, texts))
        padding = self.tokenizer.pad_token_id
        ids = torch.tensor([[*one, *[padding] * (width - len(one))] for one in texts], device=self.model.device)
        targets = ids.masked_fill(ids == padding, IGNORED)[:, 1:]
        # On the right there is nothing after padding that could look at it.
        logits = self.model(input_ids=ids[:, :-1], attention_mask=(ids != padding).long()[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        return loss, int((targets != IGNORED).sum())


def _pool(corpus: Any) -> Any:
    return corpus.pool


def _dev(corpus: Any) -> Any:
    return corpus.dev
