from __future__ import annotations

import numpy as np
import pytest

from attnlens.context.build import build_prompt
from attnlens.errors import BadInput
from attnlens.organism.circuits import cut_edges
from attnlens.testing import corpus, tiny


def test_cuts_are_those_of_the_lens() -> None:
    lens, speech = tiny("qwen3-asr"), corpus()
    prompts = [build_prompt(one, speech.pool, condition="micl", shots=2) for one in speech.test[:2]]
    told: list[int] = []
    cuts = cut_edges(lens, prompts, edges=[("output", "demo_text")], tick=lambda: told.append(1))
    assert [cut.layer for cut in cuts] == [None, *range(lens.n_layers), None]
    assert len(told) == len(cuts)
    trace = lens.trace(prompts)
    mass = trace.mass.sel(query="output", source="demo_text").mean(["item", "head"]).values
    assert [cut.mass for cut in cuts[1:-1]] == pytest.approx(mass.tolist())
    assert cuts[-1].mass == pytest.approx(float(mass.mean()))

    def bits() -> float:
        found = lens.trace(prompts)
        return float(found.nll.sum() / np.log(2) / found.n_chars.sum())

    assert cuts[0].bits == pytest.approx(bits(), abs=1e-4)
    with lens.knockout(queries="output", keys="demo_text", layers=[1]):
        assert cuts[2].bits == pytest.approx(bits(), abs=1e-4)
    assert len({round(cut.bits, 6) for cut in cuts}) == len(cuts)


def test_nothing_to_read_is_refused() -> None:
    with pytest.raises(BadInput, match="nothing to read"):
        cut_edges(tiny("qwen3-asr"), [])
