"""Draws docs/assets/prompt.svg from a real span map: `python docs/draw_prompt.py`."""

from pathlib import Path

import numpy as np

from attnlens.context.build import build_prompt
from attnlens.context.encode import encode
from attnlens.data.audio import RATE, Audio
from attnlens.data.utterance import Utterance
from attnlens.models.front import load_front_end

COLOURS = {
    "demo_audio": "#0072b2",
    "target_audio": "#56b4e9",
    "demo_text": "#d55e00",
    "demo_label": "#f0b27a",
    "output": "#7a3b00",
}
GREY = "#c4c7cc"
NAMES = {"demo_audio": "audio {}", "demo_text": "text {}", "target_audio": "target audio", "output": "output"}
WIDTH, BAR, LEFT = 920, 46, 20


def utterance(name: str, seconds: float, text: str) -> Utterance:
    return Utterance(name, Audio.from_array(np.zeros(int(RATE * seconds), dtype=np.float32)), text, "qu")


pool = [utterance("a", 2.1, "ñuqapas runam kani"), utterance("b", 1.7, "allinllachu kachkanki")]
prompt = build_prompt(utterance("t", 1.9, "wasinchikpi"), pool, condition="micl")
encoded = encode(prompt, load_front_end("tiny:qwen3-asr"), output="kaypi wasinchik")
scale = (WIDTH - 2 * LEFT) / len(encoded.spans)

shapes = []
for span in encoded.spans:
    colour = COLOURS.get(span.label.source, GREY)
    x, width = LEFT + span.start * scale, len(span) * scale
    shapes.append(f'<rect x="{x:.1f}" y="40" width="{width:.1f}" height="{BAR}" fill="{colour}"/>')
    name = NAMES.get(span.label.source)
    if name:
        demo = "" if span.label.demo is None else span.label.demo + 1
        shapes.append(
            f'<text x="{x + width / 2:.1f}" y="{40 + BAR + 18}" text-anchor="middle">{name.format(demo).strip()}</text>'
            f'<text x="{x + width / 2:.1f}" y="{40 + BAR + 34}" text-anchor="middle" class="n">{len(span)}</text>'
        )
Path("docs/assets").mkdir(exist_ok=True)
Path("docs/assets/prompt.svg").write_text(
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 132" role="img" '
    f'aria-label="Token positions of a prompt, coloured by the span they belong to">'
    f"<style>text{{font:13px system-ui,sans-serif;fill:#444}}.n{{font-size:11px;fill:#777}}</style>"
    f'<rect width="{WIDTH}" height="132" fill="#fff"/>'
    f'<text x="{LEFT}" y="26">{len(encoded.spans)} token positions: two demonstrations, the target, the answer '
    f"(grey: instruction, task, turn markers)</text>{''.join(shapes)}</svg>\n",
    encoding="utf-8",
)
