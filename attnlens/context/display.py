"""How a prompt shows itself in a notebook: its spans as coloured blocks, in the colours that every figure uses."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnlens.context.prompt import Prompt
    from attnlens.context.spans import SpanMap

__all__ = ["SOURCE_COLOURS", "SOURCE_NAMES", "prompt_html", "spans_html"]

SOURCE_COLOURS = {
    "sink": "#5c6370",
    "system": "#9aa0aa",
    "instruction": "#b9bec7",
    "demo_audio": "#0072b2",
    "demo_label": "#f0b27a",
    "demo_text": "#d55e00",
    "target_audio": "#56b4e9",
    "task": "#009e73",
    "output": "#7a3b00",
    "other": "#d8dbe1",
}
"""Audio is blue and text vermillion everywhere, out of a palette (Okabe and Ito's) made for every kind of eye."""
SOURCE_NAMES = {name: name.replace("_", " ").replace("demo", "demonstrations'") for name in SOURCE_COLOURS}


def spans_html(spans: SpanMap) -> str:
    """Return a bar of the spans, to scale, with a table of them under it.

    >>> from attnlens.context.spans import Label, SpanMap
    >>> "demo_audio 1" in spans_html(SpanMap.of([(Label("system"), 3), (Label("demo", "audio", 0), 4)]))
    True
    """
    blocks = "".join(
        f'<span title="{escape(str(span.label))}: {len(span)} positions" style="flex:{len(span)} 1 0;height:1.6em;'
        f'background:{SOURCE_COLOURS[span.label.source]}"></span>'
        for span in spans
    )
    rows = "".join(
        f"<tr><td>{escape(str(span.label))}</td><td>{span.start}-{span.stop - 1}</td><td>{len(span)}</td></tr>"
        for span in spans
    )
    table = (
        f"<table><thead><tr><th>span</th><th>positions</th><th>tokens</th></tr></thead><tbody>{rows}</tbody></table>"
    )
    return (
        f'<div style="display:flex;gap:1px;max-width:60em">{blocks}</div>'
        f"<details><summary>{len(spans)} positions, {len(spans.spans)} spans</summary>{table}</details>"
    )


def prompt_html(prompt: Prompt) -> str:
    """Return the demonstrations and the target as a table, texts as written; nothing is decoded.

    >>> from attnlens.testing import corpus
    >>> from attnlens.context.build import build_prompt
    >>> made = corpus(pool=2)
    >>> "not shown" in prompt_html(build_prompt(made.test[0], made.pool, condition="micl", shots=2))
    True
    """
    audio, text = (f'style="color:{SOURCE_COLOURS[name]}"' for name in ("demo_audio", "demo_text"))
    rows = [
        f"<tr><th>{place + 1}</th><td {audio}>{'' if one.audio is None else escape(one.audio_id)}</td>"
        f"<td {text}><bdi>{escape(one.text or '')}</bdi></td></tr>"
        for place, one in enumerate(prompt.demonstrations)
    ]
    target = prompt.target
    heard = "no audio" if target.audio is None else target.audio_id or target.id
    rows.append(
        f"<tr><th>target</th><td {audio}>{escape(heard)}</td>"
        f"<td><i>not shown:</i> <bdi>{escape(target.text)}</bdi></td></tr>"
    )
    made = f"; {', '.join(prompt.applied)}" if prompt.applied else ""
    head = f"{prompt.condition} prompt, {prompt.shots} shots, template {prompt.template}{made}"
    return (
        f"<table><caption>{escape(head)}</caption><thead><tr><th></th><th>audio</th><th>text</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
