"""Is a family's markup what the checkpoint's own chat template writes?"""

from __future__ import annotations

from typing import Any

from attnlens.context.pieces import Markup

__all__ = ["markup_difference"]

SYSTEM, USER = "Be brief.", "Say something."


def markup_difference(front: Any) -> str | None:
    """Return where a rendered conversation and our markup part; empty when they agree, None when there is no template.

    Only turns are compared: how several recordings stand in one turn is not something chat templates agree on.

    >>> from attnlens.models.front import load_front_end
    >>> front = load_front_end("tiny:qwen3-asr")
    >>> markup_difference(front) is None
    True
    """
    if not getattr(front.tokenizer, "chat_template", None):
        return None
    markup: Markup = front.markup
    messages = [{"role": "user", "content": USER}]
    ours = markup.begin
    if markup.system is not None:
        messages.insert(0, {"role": "system", "content": SYSTEM})
        ours += SYSTEM.join(markup.system)
    ours += USER.join(markup.user) + markup.assistant
    theirs = str(front.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    if theirs == ours:
        return ""
    at = next((i for i, (one, other) in enumerate(zip(ours, theirs, strict=False)) if one != other), len(ours))
    start = max(0, at - 10)
    return f"ours {ours[start : at + 20]!r}, the checkpoint's {theirs[start : at + 20]!r}"
