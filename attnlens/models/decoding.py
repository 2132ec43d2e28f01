"""Answers written greedily after prompts that are read already, several at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attnlens.errors import BadInput
from attnlens.models.generation import Generation, end_tokens, suppressed_tokens
from attnlens.models.library import Reading, twin
from attnlens.models.memory import asking
from attnlens.models.side_by_side import SideBySide, stackable

__all__ = ["decode"]


def decode(readings: Sequence[Reading] | SideBySide, *, max_new_tokens: int) -> list[Generation]:
    """Write the answers that :meth:`attnlens.models.speechlm.SpeechLM.generate` writes, without reading prompts again.

    Caches of different lengths are padded on the left and the padding is hidden, so that each step of all answers is
    one forward pass. That moves the last digits of logits, as any batch does; one reading alone is not padded.

    >>> from attnlens.models.library import Library
    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> lens = load("tiny:qwen3-asr")
    >>> library, prompts = Library(lens), [probe(shots=1), probe(shots=2)]
    >>> answers = decode([library.read(lens.encode(prompt, "kuna")) for prompt in prompts], max_new_tokens=4)
    >>> [one.text for one in answers] == [lens.generate(prompt, max_new_tokens=4).text for prompt in prompts]
    True
    """
    import torch

    if not isinstance(readings, SideBySide):
        if len(readings) > 1 and not all(stackable(one) for one in readings):
            return [decode([one], max_new_tokens=max_new_tokens)[0] for one in readings]
        if not readings:
            return []
    if max_new_tokens < 1:
        raise BadInput("an answer has at least one token", given=max_new_tokens, fix="pass 1 or more")
    beside = readings if isinstance(readings, SideBySide) else SideBySide.of(readings)
    lens, listed = beside.lens, beside.readings
    for one in listed:
        lens.require_room(one.encoded, reserve=max(0, one.start + 1 + max_new_tokens - len(one.encoded.ids)))
    back, ends = lens.back, set(end_tokens(lens))
    made: list[list[int]] = [[] for _ in listed]
    what = f"{max_new_tokens} new tokens after {len(listed)} prompts of up to {beside.longest} positions"
    with asking(what, fix="lower decoding.batch or the shots"), torch.no_grad():
        cache, mask = twin(beside.cache), beside.mask()
        step = torch.cat([one.inputs["inputs_embeds"][:, one.start : one.start + 1] for one in listed])
        at = torch.cat([one.inputs["position_ids"][..., one.start : one.start + 1] for one in listed], dim=-2)
        embedding = lens.decoder.get_input_embeddings()
        for turn in range(max_new_tokens):
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            hidden = back.model.base_model(
                inputs_embeds=step, attention_mask=mask, position_ids=at + turn, past_key_values=cache, use_cache=True
            ).last_hidden_state
            logits = (back.unembedding(hidden[:, -1]) * back.logit_scale).float()
            if banned := suppressed_tokens(lens, first=turn == 0):
                logits[:, banned] = -torch.inf
            chosen = logits.argmax(-1)
            for tokens, token in zip(made, chosen.tolist(), strict=True):
                if not ends.intersection(tokens[-1:]):
                    tokens.append(token)
            if all(ends.intersection(tokens[-1:]) for tokens in made):
                break
            step = embedding(chosen)[:, None]
    return [_answer(one, tokens, ends) for one, tokens in zip(listed, made, strict=True)]


def _answer(reading: Reading, tokens: list[int], ends: set[int]) -> Generation:
    ended = bool(ends.intersection(tokens[-1:]))
    ids = np.asarray(tokens[:-1] if ended else tokens, dtype=np.int64)
    text = reading.lens.front.tokenizer.decode(ids, skip_special_tokens=True)
    return Generation(text, ids, "end-token" if ended else "length", reading.encoded)
