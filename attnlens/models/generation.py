"""Decoding an answer: greedy unless asked otherwise, and nothing else applied in silence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import Encoded
from attnlens.errors import BadInput, UnsupportedModel
from attnlens.models.memory import asking

if TYPE_CHECKING:
    from torch import Tensor

    from attnlens.models.speechlm import SpeechLM

__all__ = ["Generation", "end_tokens", "generate", "suppressed_tokens", "without_habits"]

_KEPT = {
    "begin_suppress_tokens",
    "bos_token_id",
    "decoder_start_token_id",
    "eos_token_id",
    "pad_token_id",
    "suppress_tokens",
}


@dataclass(frozen=True)
class Generation:
    """An answer: its text, its token ids [tokens] without the end token, and why it ended."""

    text: str
    ids: NDArray[np.int64]
    ended: Literal["end-token", "length"]
    encoded: Encoded


def generate(
    lens: SpeechLM, encoded: Encoded, *, max_new_tokens: int, do_sample: bool, seed: int, options: dict[str, Any]
) -> Generation:
    """Decode an answer; the public face is :meth:`attnlens.models.speechlm.SpeechLM.generate`."""
    import torch

    from attnlens.capture.attention import capture
    from attnlens.models.interventions import edits_for

    if max_new_tokens < 1:
        raise BadInput(
            "an answer has at least one token", given=f"max_new_tokens={max_new_tokens}", fix="pass 1 or more"
        )
    if not hasattr(lens.model, "generate"):
        raise UnsupportedModel(
            f"{lens.name} cannot generate",
            given=type(lens.model).__name__,
            present="a model with no `generate`",
            fix="score hypotheses instead",
        )
    lens.require_room(encoded, reserve=max_new_tokens)
    ends = set(end_tokens(lens))
    made: list[int] = []
    what = f"{max_new_tokens} new tokens after {len(encoded.ids)} positions"
    with (
        asking(what, fix="lower max_new_tokens or the shots, or pass dtype='bfloat16' to load"),
        capture(lens.sites, None, edits_for(lens, encoded, new=max_new_tokens)),
        torch.no_grad(),
    ):
        prompt = lens.inputs(encoded)
        with torch.random.fork_rng(enabled=do_sample):
            if do_sample:
                torch.manual_seed(seed)
            while len(made) < max_new_tokens and not ends.intersection(made[-1:]):
                inputs = lens.back.extended(prompt, torch.tensor(made, device=lens.device)) if made else prompt
                length = len(encoded.ids) + len(made)
                budget = max_new_tokens - len(made)
                if lens.cache_border is not None and length <= lens.cache_border:
                    # Past the border the cache is worth nothing: stop there, and read everything again.
                    budget = min(budget, lens.cache_border - length + 1)
                for follower in _followers(options):
                    follower.resume(made)
                made += _continue(lens, inputs, budget, {"do_sample": do_sample, **options})
    ended = bool(ends.intersection(made[-1:]))
    ids = np.asarray(made[:-1] if ended else made, dtype=np.int64)
    text = lens.front.tokenizer.decode(ids, skip_special_tokens=True)
    return Generation(text, ids, "end-token" if ended else "length", encoded)


def end_tokens(lens: SpeechLM) -> list[int]:
    """Return the tokens that end an answer."""
    return _ids(lens.model.generation_config.eos_token_id)


def suppressed_tokens(lens: SpeechLM, *, first: bool) -> list[int]:
    """Return the tokens that the checkpoint never writes, or does not begin an answer with."""
    config = lens.model.generation_config
    return _ids(config.suppress_tokens) + (_ids(config.begin_suppress_tokens) if first else [])


def without_habits(model: Any, tokenizer: Any) -> None:
    """Keep of a checkpoint's generation settings what says where answers begin and end, and drop the rest.

    Checkpoints come with sampling temperatures and repetition penalties that would also act on a greedy decoding. The
    tokenizer's end token counts as an end too: that of a full Omni checkpoint's thinker stands nowhere else.
    """
    from transformers import GenerationConfig

    kept = {name: value for name, value in model.generation_config.to_dict().items() if name in _KEPT}
    ends = _ids(kept.get("eos_token_id"))
    kept["eos_token_id"] = list(dict.fromkeys([*ends, *_ids(tokenizer.eos_token_id)])) or None
    if kept.get("pad_token_id") is None:
        kept["pad_token_id"] = next(iter(_ids(kept["eos_token_id"])), None)
    model.generation_config = GenerationConfig(**kept)


def _continue(lens: SpeechLM, inputs: dict[str, Tensor], budget: int, options: dict[str, Any]) -> list[int]:
    from transformers import GenerationMixin

    # Past the class's own `generate`: Granite's takes embeddings for text and switches its adapter off.
    made = GenerationMixin.generate(lens.model, **inputs, max_new_tokens=budget, **options)
    return lens.back.new_tokens(inputs, made)


def _followers(options: dict[str, Any]) -> list[Any]:
    # An answer may take several calls of transformers' `generate`; a processor that follows it must be told so.
    return [one for one in options.get("logits_processor") or () if hasattr(one, "resume")]


def _ids(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return [value] if isinstance(value, int) else list(value)
