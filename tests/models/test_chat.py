"""Our markup of turns against a checkpoint's own chat template."""

from __future__ import annotations

import pytest

from attnlens.models.chat import markup_difference
from attnlens.models.load import load
from attnlens.models.self_check import check_model
from attnlens.testing import front_end

TURNS = {
    "qwen3-omni": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "phi4-multimodal": "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "voxtral": "<s>{% for m in messages %}[INST]{{ m.content }}[/INST]{% endfor %}",
    "granite-speech": "{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}"
    "<|end_of_text|>\n{% endfor %}{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}",
}


@pytest.mark.parametrize("family", TURNS)
def test_published_turns_are_ours(family: str) -> None:
    front = front_end(family)
    front.tokenizer.chat_template = TURNS[family]
    assert markup_difference(front) == ""


def test_a_difference_is_shown_and_noted_not_refused() -> None:
    lens = load("tiny:qwen3-asr")
    lens.front.tokenizer.chat_template = TURNS["qwen3-omni"].replace("<|im_end|>", "<|end|>")
    difference = markup_difference(lens.front)
    assert difference
    assert "<|im_end|>" in difference
    assert "<|end|>" in difference
    table = check_model(lens)
    assert table.passed
    assert [finding.measured for finding in table.findings if not finding.passed] == [difference]
