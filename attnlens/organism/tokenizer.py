"""The organism's tokenizer: one token a character, bytes for what it does not know, one token for each set phrase."""

from __future__ import annotations

from typing import Any

from attnlens.models.qwen3_asr import QWEN3_MARKUP
from attnlens.organism.orthography import LETTERS

__all__ = ["END", "PHRASES", "make_tokenizer"]

END = "<|im_end|>"
PHRASES = (
    "user\n",
    "assistant\n",
    "system\n",
    "Here are sentences of one language.\n",
    "Here are recordings of one language with their transcriptions.\n",
    "Here are recordings of one language.\n",
    "Transcribe this recording. Answer with the transcription only.",
    "Write the next sentence. Answer with the sentence only.",
    "Transcription:",
)
"""What the default template says. A model of this size learns no English: each sentence is a sign of its own."""
_ALONE = " \n.,;:!?-_()<>|/0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def make_tokenizer() -> Any:
    r"""Return the tokenizer, a fast tokenizer of transformers.

    >>> tokenizer = make_tokenizer()
    >>> tokenizer.tokenize("ña\u0167")
    ['ñ', 'a', '<0xC5>', '<0xA7>']
    >>> tokenizer.decode(tokenizer("ña\u0167", add_special_tokens=False)["input_ids"])
    'ñaŧ'
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<|pad|>", "<|im_start|>", END, *QWEN3_MARKUP.audio, *PHRASES]
    characters = dict.fromkeys(LETTERS + _ALONE + "\u0303")
    spelled = [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary = {token: index for index, token in enumerate([*specials, *characters, *spelled])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    # Characters with marks are one letter, however they were typed.
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    begin, placeholder, end = QWEN3_MARKUP.audio
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",  # noqa: S106
        eos_token=END,
        padding_side="left",
        extra_special_tokens={"audio_bos_token": begin, "audio_token": placeholder, "audio_eos_token": end},
    )
