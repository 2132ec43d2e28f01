from __future__ import annotations

import numpy as np
import pytest

import attnlens
from attnlens.context.prompt import Prompt
from attnlens.errors import BadInput, UnknownName
from attnlens.evidence.copying import copy_scores, matches
from attnlens.evidence.faithfulness import faithfulness
from attnlens.evidence.heads import HeadSearch, search_heads
from attnlens.models.detail import token_detail
from attnlens.models.speechlm import SpeechLM


@pytest.fixture(scope="module")
def found(lens: SpeechLM, prompts: list[Prompt]) -> HeadSearch:
    return search_heads(lens, prompts[:4], fill="zero")


def test_effects_are_those_of_the_lens(found: HeadSearch, lens: SpeechLM, prompts: list[Prompt]) -> None:
    two = prompts[:2]
    clean = lens.trace(two).nll.values
    with lens.ablate_heads(layers=[1], heads=[3]):
        lost = lens.trace(two).nll.values
    np.testing.assert_allclose(found.maps["effect"][:2, 1, 3], (lost - clean) / found.tokens[:2], atol=1e-4)
    mass = lens.trace(two).mass.sel(query="output", source=["demo_audio", "demo_text"]).sum("source").values
    np.testing.assert_allclose(found.maps["mass"][:2], mass, atol=1e-6)


def test_one_edge_of_one_head_can_be_cut(lens: SpeechLM, prompts: list[Prompt]) -> None:
    two = prompts[:2]
    found = search_heads(lens, two, cut="output -> demo_text")
    clean = lens.trace(two).nll.values
    with lens.knockout(queries="output", keys="demo_text", layers=[1], heads=[3]):
        lost = lens.trace(two).nll.values
    np.testing.assert_allclose(found.maps["effect"][:, 1, 3], (lost - clean) / found.tokens, atol=1e-4)


def test_means_come_from_the_other_half(lens: SpeechLM, prompts: list[Prompt]) -> None:
    four = prompts[:4]
    mean = search_heads(lens, four, fill="mean")
    clean = lens.trace(four).nll.values
    with lens.ablate_heads(layers=[0], heads=[2], value="mean", reference=four[1::2]):
        expected = (lens.trace(four[0]).nll.item() - clean[0]) / mean.tokens[0]
    assert mean.maps["effect"][0, 0, 2] == pytest.approx(expected, abs=1e-4)


def test_rankings_tables_and_curves(found: HeadSearch) -> None:
    frame = found.to_frame()
    assert len(frame) == 24
    assert frame["effect"].is_monotonic_decreasing
    assert found.ranking()[0] == (int(frame["layer"][0]), int(frame["head"][0]))
    assert sorted(found.ranking("random@1")) == sorted(found.ranking("mass"))
    curve = found.cumulative(by=["effect"], counts=[0, 1, 24], orders=2)
    assert curve["ranking"].tolist() == ["effect"] * 3 + ["random"] * 3
    none = curve[curve["heads"] == 0]["estimate"]
    np.testing.assert_allclose(none, 0.0, atol=1e-6)
    single = curve[(curve["ranking"] == "effect") & (curve["heads"] == 1)]["estimate"].item()
    assert single == pytest.approx(frame["effect"].max(), abs=1e-4)
    ends = curve[curve["heads"] == 24]["estimate"].values
    assert ends[0] == pytest.approx(ends[1], abs=1e-4)
    assert attnlens.plot.cumulative_ablation(curve).name == "cumulative_ablation"
    with pytest.raises(UnknownName, match="measure of heads"):
        found.ranking("masses")
    with pytest.raises(BadInput, match="numbers of heads"):
        found.cumulative(counts=[25])


def test_copying_is_that_of_a_loop(lens: SpeechLM, prompts: list[Prompt]) -> None:
    prompt = prompts[0]
    encoded = lens.encode(prompt, prompt.target.text)
    weights = token_detail(lens, prompt).weights.values
    ids, rows = encoded.ids, encoded.spans.positions("output") - 1
    text = encoded.spans.positions("demo_text").tolist()
    scores = copy_scores(lens, [prompt])
    for name in ("copy", "induction"):
        parts = []
        for place, row in enumerate(rows):
            if name == "copy":
                match = [key for key in text if ids[key] == ids[row + 1]]
            else:
                match = [key for key in text if key - 1 in text and place and ids[key - 1] == ids[row]]
            if match:
                on_text = weights[:, :, place, text].sum(-1)
                parts.append(weights[:, :, place, match].sum(-1) - on_text * len(match) / len(text))
        np.testing.assert_allclose(scores[name][0], np.mean(parts, axis=0), atol=1e-5)
    copy, after = matches(encoded)
    assert copy.any()
    assert after.any()
    assert not after[0].any()


def test_faithfulness_ranks_measures_and_falls_back_to_cells(found: HeadSearch) -> None:
    told = found.faithfulness()
    assert set(told.to_frame()["measure"]) == {"mass", "contribution", "logit_effect", "copy", "induction"}
    assert told.utterances == 4
    assert [one.name for one in told.findings()] == [f"faithfulness {name}" for name in told.found]
    effect = found.maps["effect"]
    perfect = faithfulness({"itself": effect}, effect)
    assert perfect["itself"].rho == pytest.approx(1)
    few = faithfulness({"itself": effect[:2], "constant": np.ones_like(effect[:2])}, effect[:2])
    assert few.utterances == 0
    assert few["constant"].test.p == 1
    assert list(few.found) == ["itself", "constant"]
    with pytest.raises(BadInput, match="different items"):
        faithfulness({"mass": effect[:1]}, effect)
    with pytest.raises(BadInput, match="no measure"):
        faithfulness({}, effect)


def test_refused(lens: SpeechLM, prompts: list[Prompt]) -> None:
    from attnlens.evidence.asked import shown_as

    with pytest.raises(BadInput, match="nothing to read"):
        search_heads(lens, [])
    with pytest.raises(BadInput, match="other prompts"):
        search_heads(lens, prompts[:1])
    with pytest.raises(UnknownName, match="lost head"):
        search_heads(lens, prompts[:2], fill="resample")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no prompt has such a span"):
        search_heads(lens, [shown_as(one, "asr") for one in prompts[:2]])
