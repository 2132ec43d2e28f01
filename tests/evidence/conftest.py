from __future__ import annotations

import pytest

from attnlens.context.build import build_prompt
from attnlens.context.prompt import Prompt
from attnlens.models.speechlm import SpeechLM
from attnlens.testing import corpus, tiny


@pytest.fixture(scope="session")
def lens() -> SpeechLM:
    return tiny("qwen3-asr")


@pytest.fixture(scope="session")
def prompts() -> list[Prompt]:
    speech = corpus(test=7, pool=6)
    return [
        build_prompt(one, speech.pool[place % 4 : place % 4 + 2], condition="micl", order="as-given")
        for place, one in enumerate(speech.test)
    ]
