"""Parts of tiny random models, made on the spot: a tokenizer without a download and the sizes all families share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["TEXT", "VOCABULARY", "byte_tokenizer"]

VOCABULARY = 320
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""The text decoder of every tiny model: grouped heads, so that nothing passes by having as many keys as queries."""

BASIC = ("<pad>", "<bos>", "<eos>", "<unk>")


def byte_tokenizer(special: Sequence[str], **named: str) -> Any:
    """Return a tokenizer with one token per UTF-8 byte and the given special tokens.

    >>> tokenizer = byte_tokenizer(["<|audio|>"])
    >>> tokenizer("né<|audio|>", add_special_tokens=False)["input_ids"][-1] == 4
    True
    >>> tokenizer.decode(tokenizer("né", add_special_tokens=False)["input_ids"])
    'né'
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = [*BASIC, *special]
    vocabulary = {token: index for index, token in enumerate([*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))  # noqa: S106 - a token, no secret
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",  # noqa: S106
        bos_token="<bos>",  # noqa: S106
        eos_token="<eos>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        padding_side="left",
        extra_special_tokens=named,
    )
