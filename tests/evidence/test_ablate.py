from __future__ import annotations

import numpy as np
import pytest
import torch

import attnlens
from attnlens.context.controls import apply_control
from attnlens.context.prompt import Prompt
from attnlens.errors import BadInput, UnknownName
from attnlens.evidence.ablate import ablate, knockout_grid
from attnlens.evidence.asked import shown_as
from attnlens.evidence.edges import edge, every_edge, windows
from attnlens.evidence.random_keys import random_keys
from attnlens.models.replay import Replay, Stream
from attnlens.models.speechlm import SpeechLM

NEAR = 5e-4


def nll(lens: SpeechLM, prompt: Prompt) -> float:
    return float(lens.trace(prompt).nll.item())


def test_each_depth_is_what_one_would_do_by_hand(lens: SpeechLM, prompts: list[Prompt]) -> None:
    two = prompts[:3]
    table = ablate(
        lens,
        two,
        ["icl", "audio-reversed", "output -> demo_audio", "mean:demo_audio", "zero:target_audio", "patch:demo_text"],
        windows=[(1,)],
        controls=["equal-count"],
    )
    clean = [nll(lens, one) for one in two]
    np.testing.assert_allclose(table.clean, clean, atol=NEAR)
    shown = [nll(lens, shown_as(one, "icl")) for one in two]
    np.testing.assert_allclose(table["icl"].change, np.subtract(shown, clean), atol=NEAR)
    turned = [nll(lens, apply_control(one, "audio-reversed", seed=0)) for one in two]
    np.testing.assert_allclose(table["audio-reversed"].change, np.subtract(turned, clean), atol=NEAR)
    with lens.knockout(queries="output", keys="demo_audio", layers=[1]):
        cut = [nll(lens, one) for one in two]
    np.testing.assert_allclose(table["output -> demo_audio @ 1"].change, np.subtract(cut, clean), atol=NEAR)
    mass = lens.trace(two).mass.sel(query="output", source="demo_audio", layer=1).mean("head").values
    np.testing.assert_allclose(table["output -> demo_audio"].mass, mass, atol=1e-5)  # type: ignore[arg-type]
    assert set(table["output -> demo_audio"].random) == {"equal-count"}

    replays = [Replay(lens, lens.encode(one, one.target.text)) for one in two]
    spans = [one.encoded.spans.positions("demo_audio") for one in replays]
    states = [one.streams([1])[1][at] for one, at in zip(replays, spans, strict=True)]
    mean = torch.cat(states[1:]).mean(0)
    expected = replays[0].nll(streams=[Stream(1, spans[0], mean.expand(len(spans[0]), -1))]) - clean[0]
    assert table["mean:demo_audio @ 1"].change[0] == pytest.approx(expected, abs=NEAR)


def test_another_answer_is_asked_for_under_the_same_ablation(lens: SpeechLM, prompts: list[Prompt]) -> None:
    two = prompts[:2]
    table = ablate(lens, two, ["output -> demo_text", "icl"], controls=["other-answer"])
    for place, prompt in enumerate(two):
        answer = two[1 - place].target.text
        scale = table.tokens[place]
        for name in ("output -> demo_text", "icl"):
            clean = lens.trace(prompt, outputs=answer)
            if name == "icl":
                changed = lens.trace(shown_as(prompt, "icl"), outputs=answer)
            else:
                with lens.knockout(queries="output", keys="demo_text"):
                    changed = lens.trace(prompt, outputs=answer)
            expected = (changed.nll.item() - clean.nll.item()) / clean.n_output_tokens.item() * scale
            other = table[name].other
            assert other is not None
            assert other[place] == pytest.approx(expected, abs=NEAR)
    alone = ablate(lens, prompts[:1], ["icl"], controls=["other-answer"])
    assert "another reference" in str(alone.claim(alone.effects[0]).controls["another answer"])


def test_a_patch_finds_texts_again_where_they_moved(lens: SpeechLM, prompts: list[Prompt]) -> None:
    two = prompts[:2]
    table = ablate(lens, two, ["patch:demo_text", "patch:demo_audio"], windows=[(0, 1, 2)], controls=[])
    for place, clean in enumerate(two):
        corrupted = apply_control(clean, "mismatched-pairs", seed=0)
        of, to = (lens.encode(one, clean.target.text) for one in (clean, corrupted))
        moved = {one.text_id: slot for slot, one in enumerate(corrupted.demonstrations)}
        source, target = [], []
        for slot, one in enumerate(clean.demonstrations):
            source += of.spans.positions("demo_text", demo=slot).tolist()
            target += to.spans.positions("demo_text", demo=moved[one.text_id]).tolist()
        streams = Replay(lens, of).streams([-1, 0, 1, 2])
        replay = Replay(lens, to)
        order = np.argsort(target)
        at, frm = np.array(target)[order], np.array(source)[order]
        got = replay.nll(streams=[Stream(layer, at, stream[frm]) for layer, stream in streams.items()])
        effect = table["patch:demo_text<-mismatched-pairs"]
        assert effect.change[place] == pytest.approx(got - replay.clean, abs=NEAR)
        assert effect.damage is not None
        assert effect.damage[place] == pytest.approx(nll(lens, corrupted) - nll(lens, clean), abs=NEAR)


def test_denominators_near_zero_are_counted_and_not_clipped(lens: SpeechLM, prompts: list[Prompt]) -> None:
    table = ablate(lens, prompts, ["patch:demo_text"], controls=[])
    effect = table.effects[0]
    assert effect.damage is not None
    effect.damage[:] = np.where(np.arange(len(prompts)) < 5, 1e-9, 0.5 * table.tokens)
    share, undefined = table.recovery(effect)
    assert undefined == 5
    assert share == pytest.approx(-effect.change[5:].sum() / (0.5 * table.tokens[5:].sum()))
    assert table.to_frame()["undefined"].tolist() == [5]
    with pytest.raises(BadInput, match="only a patch"):
        table.recovery(ablate(lens, prompts[:2], ["icl"]).effects[0])


def test_the_grid_is_one_table_with_verdicts_and_a_figure(lens: SpeechLM, prompts: list[Prompt]) -> None:
    cut = {"edges": ["output -> demo_text", "demo_text -> demo_audio"], "windows": [(0,), (1, 2)]}
    grid = knockout_grid(lens, prompts, **cut)  # type: ignore[arg-type]
    frame = grid.to_frame()
    assert frame["layers"].tolist() == ["0", "1-2", "all"] * 2
    assert set(frame["verdict"].str.split().str[0]) <= {"supported", "inconclusive", "refuted"}
    assert {"equal_count", "equal_mass", "equal_count_share", "mass"} <= set(frame.columns)
    assert attnlens.plot.knockout_grid(grid.knockouts()).name == "knockout_grid"
    assert "7 utterances" in str(grid)
    assert "<table" in grid._repr_html_()
    again = knockout_grid(lens, prompts[:2], **cut)  # type: ignore[arg-type]
    for one, other in zip(grid.effects, again.effects, strict=True):
        np.testing.assert_array_equal(one.random["equal-mass"].change[:2], other.random["equal-mass"].change)
    assert all(one.claim and one.evidence for one in grid.explain())


def test_prompts_without_the_span_are_left_out_and_counted(lens: SpeechLM, prompts: list[Prompt]) -> None:
    mixed = [*prompts[:6], shown_as(prompts[6], "asr")]
    table = ablate(lens, mixed, ["output -> demo_audio", "mean:demo_text", "patch:demo_text"], controls=["equal-mass"])
    for effect in table.effects:
        assert np.isnan(effect.change[-1])
        assert sum(effect.whys.values()) == 1
    assert table.to_frame()["n"].tolist() == [6, 6, 6]
    assert "no such edge" in str(table)
    assert "1 of 7 items" in table.findings[0].why


def test_few_utterances_are_inconclusive_and_say_how_many_are_due(lens: SpeechLM, prompts: list[Prompt]) -> None:
    (found,) = ablate(lens, prompts[:4], ["icl"]).findings
    assert found.verdict == "inconclusive"
    assert "at least 6" in found.why or "6 " in found.why


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        ([], {}, "nothing is to be ablated"),
        (["icl", "icl"], {}, "named twice"),
        (["output demo_audio"], {}, "no ablation"),
        (["output -> demo_audios"], {}, "demo_audio"),
        (["mean:nothing"], {}, "source"),
        (["patch:demo_text<-nothing"], {}, "control"),
        (["icl"], {"controls": ["equal-size"]}, "control of an ablation"),
        (["icl"], {"how": "cut"}, "way to cut"),
        (["output -> sink"], {"windows": [(9,)]}, "layers of the model"),
        (["output -> sink"], {"windows": []}, "no window"),
        (["output -> sink"], {"windows": "some"}, "windows"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(
    lens: SpeechLM, prompts: list[Prompt], what: list[str], options: dict[str, object], message: str
) -> None:
    with pytest.raises((BadInput, UnknownName), match=message):
        ablate(lens, prompts[:2], what, **options)  # type: ignore[arg-type]


def test_no_prompts_and_one_prompt(lens: SpeechLM, prompts: list[Prompt]) -> None:
    with pytest.raises(BadInput, match="nothing to read"):
        ablate(lens, [], ["icl"])
    with pytest.raises(BadInput, match="other prompts"):
        ablate(lens, prompts[:1], ["mean:demo_audio"])
    with pytest.raises(BadInput, match="cannot be shown as"):
        shown_as(shown_as(prompts[0], "icl"), "micl")


def test_edges_that_no_row_can_see_are_none(lens: SpeechLM, prompts: list[Prompt]) -> None:
    encoded = lens.encode(prompts[0], prompts[0].target.text)
    assert edge("demo_text -> target_audio").flags(encoded) is None
    named = [str(one) for one in every_edge([encoded])]
    assert "demo_text -> demo_audio" in named
    assert not any(name.endswith("-> output") and not name.startswith("output") for name in named)
    assert windows(9, count=2) == [(0, 1, 2, 3, 4), (5, 6, 7, 8)]
    with pytest.raises(BadInput, match="at least one layer"):
        windows(4, width=9)
    with pytest.raises(BadInput, match="one of them"):
        windows(4, width=1, count=2)


def test_random_keys_match_count_and_mass() -> None:
    rng = np.random.default_rng(0)
    rows, keys = np.arange(200) > 150, (np.arange(200) > 20) & (np.arange(200) < 50)
    spared = np.arange(200) > 140
    mass = rng.random(200)
    one = random_keys(rows, keys, kind="equal-count", spared=spared, rng=rng)
    assert one.keys.sum() == keys.sum()
    assert not (one.keys & (keys | spared)).any()
    assert not one.keys[0]
    two = random_keys(rows, keys, kind="equal-mass", spared=spared, mass=mass, rng=rng)
    assert mass[two.keys].sum() == pytest.approx(two.share * mass[keys].sum())
    assert 0.95 < two.share <= 1
    few = random_keys(rows, ~keys & (np.arange(200) < 140), kind="equal-count", spared=spared, rng=rng)
    # What was not cut before the rows' own: the keys of above and one position beside the spared.
    assert few.keys.sum() == keys.sum() + 1
    assert few.share == pytest.approx((keys.sum() + 1) / (~keys[:140]).sum())


def test_controls_find_other_utterances_in_the_corpus_of_the_language(lens: SpeechLM, prompts: list[Prompt]) -> None:
    from attnlens.testing import corpus

    without = ablate(lens, prompts[:2], ["target-audio-swapped"], controls=[])
    assert sum(without.effects[0].whys.values()) == 2
    table = ablate(lens, prompts[:2], ["target-audio-swapped"], controls=[], corpora=[corpus(test=7, pool=6)])
    assert np.isfinite(table.effects[0].change).all()
