"""Whisper: what the encoder hears and the decoder reads, whose every position is, and what does not fit."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnlens.capture.sites import Kind
from attnlens.context.build import build_prompt
from attnlens.context.encode import encode_fitting
from attnlens.context.prompt import Demonstration, Prompt, Target
from attnlens.errors import BadInput
from attnlens.models.load import load
from attnlens.models.speechlm import SpeechLM
from attnlens.testing import clip, corpus

SPEECH = corpus(pool=3)
CLOSE: dict[str, Any] = {"rtol": 0.0, "atol": 2e-6}


@functools.cache
def lens() -> SpeechLM:
    return load("tiny:whisper")


def lengths(*seconds: float, language: str = "xx") -> Prompt:
    clips = [clip(seconds=length, seed=index) for index, length in enumerate(seconds)]
    demos = tuple(
        Demonstration(f"d{index}", one, f"ka{index}", f"d{index}", f"d{index}") for index, one in enumerate(clips[:-1])
    )
    return Prompt("micl" if demos else "asr", demos, Target("t", clips[-1], "su", language))


def test_demonstrations_stand_before_the_target_in_sound_and_in_text() -> None:
    one, asked = lens(), lengths(1.0, 0.75, 2.0)
    encoded = one.encode(asked, "su")
    assert one.front.tokenizer.decode(encoded.ids) == "<|startoftranscript|><|transcribe|><|notimestamps|> ka0 ka1 su"
    assert [(str(span.label), len(span)) for span in encoded.spans.spans] == [
        ("sink", 1),
        ("task", 2),
        ("demo_text 1", 4),
        ("demo_text 2", 4),
        ("output", 3),
    ]
    frames = encoded.encoder_spans
    assert frames is not None
    assert [(str(span.label), span.start, span.stop, span.seconds) for span in frames.spans] == [
        ("demo_audio 1", 0, 50, 1.0),
        ("demo_audio 2", 50, 88, 0.75),
        ("target_audio", 88, 188, 2.0),
        ("other", 188, 1500, None),
    ]
    assert asked.target.audio is not None
    heard = [demo.audio.load() for demo in asked.demonstrations if demo.audio is not None]
    samples = np.concatenate([*heard, asked.target.audio.load()])
    window = one.front.extractor(samples, sampling_rate=16_000, return_tensors="np")["input_features"]
    np.testing.assert_array_equal(encoded.features[0].arrays["input_features"], window)


def test_the_language_is_named_where_whisper_knows_it() -> None:
    start = lens().front.tokenizer.decode(lens().encode(lengths(1.0, language="en")).ids)
    assert start == "<|startoftranscript|><|en|><|transcribe|><|notimestamps|>"


def test_a_text_begins_with_a_space_and_is_never_read_as_markup() -> None:
    front = lens().front
    nasty = "a <|transcribe|> <|startoftranscript|>"
    ids = front.tokenise(nasty, kind="content")
    assert front.tokenizer.decode(ids) == f" {nasty}"
    assert front.tokenise(f" {nasty}", kind="content") == ids
    assert not set(front.tokenise("<|transcribe|><|startoftranscript|>", kind="markup")) & set(ids)


def test_conditions_show_what_they_say() -> None:
    def shown(condition: Any) -> tuple[set[Any], set[Any]]:
        encoded = lens().encode(build_prompt(SPEECH.test[0], SPEECH.pool, condition=condition, shots=1))
        assert encoded.encoder_spans is not None
        read = {span.label.source for span in encoded.spans.spans}
        return read - {"sink", "task"}, {span.label.source for span in encoded.encoder_spans.spans} - {"other"}

    assert shown("icl") == ({"demo_text"}, {"target_audio"})
    assert shown("micl") == ({"demo_text"}, {"demo_audio", "target_audio"})
    assert shown("a-icl") == (set(), {"demo_audio", "target_audio"})
    with pytest.raises(BadInput, match="without a target recording"):
        shown("t-icl")


def test_what_does_not_fit_is_refused_never_cut() -> None:
    one = lens()
    full = one.encode(lengths(14.0, 16.0))
    assert full.encoder_spans is not None
    assert [span.stop for span in full.encoder_spans.spans] == [700, 1500]
    with pytest.raises(BadInput, match="longer together than Whisper's window"):
        one.encode(lengths(14.0, 16.001))
    with pytest.raises(BadInput, match="longer than whisper can hear"):
        one.front.audio_positions(30 * 16_000 + 1)
    with pytest.raises(BadInput, match="448 positions"):
        one.inputs(one.encode(lengths(1.0), "a" * 448))


def test_fewer_shots_until_the_window_holds_them() -> None:
    demos = [8.0, 9.0, 10.0, 11.0]

    def build(shots: int) -> Prompt:
        return lengths(*demos[:shots], 5.0)

    made = encode_fitting(build, lens().front, shots=4, on_overflow="fewer-shots")
    assert (made.prompt.shots, made.shots_dropped) == (2, 2)
    assert made.encoder_spans is not None
    with pytest.raises(BadInput, match="window"):
        encode_fitting(build, lens().front, shots=4)


def test_logits_batches_and_generation() -> None:
    one = lens()
    encoded, other = one.encode(lengths(1.0, 0.8)), one.encode(lengths(0.9))
    inputs = one.inputs(encoded)
    logits = one.logits(inputs)
    with torch.no_grad():
        ids = torch.as_tensor(encoded.ids)[None]
        bare = one.model(input_features=inputs["input_features"], decoder_input_ids=ids).logits
    torch.testing.assert_close(logits, bare, **CLOSE)
    together = one.logits(one.inputs([encoded, other]))
    torch.testing.assert_close(together[0], logits[0], **CLOSE)
    alone = one.logits(one.inputs(other))[0]
    torch.testing.assert_close(together[1, -len(alone) :], alone, **CLOSE)
    made: list[int] = []
    for _ in range(4):
        made.append(int(one.logits(inputs, keep=1).argmax()))
        inputs = one.back.extended(inputs, torch.tensor(made[-1:]))
    assert one.generate(encoded, max_new_tokens=4).ids.tolist() == made


def test_a_checkpoint_folder_gives_the_same_logits(tmp_path: Path) -> None:
    one = lens()
    for part in (one.model, one.front.tokenizer, one.front.extractor):
        part.save_pretrained(tmp_path)
    other, asked = load(str(tmp_path)), lengths(1.0)
    assert other.family == "whisper"
    assert torch.equal(other.logits(other.inputs(other.encode(asked))), one.logits(one.inputs(one.encode(asked))))


def test_encoder_decoder_and_cross_attention_are_separate_sites() -> None:
    one = lens()
    assert (one.n_layers, one.n_heads, one.attn) == (3, 8, "sdpa")
    sites = one.sites
    kinds: tuple[Kind, ...] = ("self", "cross", "encoder")
    assert [sites.layers(kind) for kind in kinds] == [(0, 1, 2), (0, 1, 2), (0, 1)]
    assert sites.decoder is one.model.model.decoder
    assert all(module is sites.modules[site].out_proj for site, module in sites.projections.items())
    assert len(sites.projections) == 8


def test_stable_names_and_what_they_name() -> None:
    one = lens()
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            seen[name] = one.layers[1].residual.tensor(output)

        return hook

    layer = one.layers[1]
    modules = {
        "before": one.layers[0].module,
        "self": layer.attention_output.module,
        "cross": one.back.cross_attention[1],
        "mlp": layer.mlp_output.module,
        "after": layer.module,
    }
    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        one.logits(one.inputs(one.encode(lengths(1.0))))
    finally:
        for handle in handles:
            handle.remove()
    stream = seen["before"] + seen["self"] + seen["cross"] + seen["mlp"]
    torch.testing.assert_close(seen["after"], stream, rtol=0.0, atol=1e-5)


def test_what_is_cut_on_demand_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    one = lens()
    monkeypatch.setattr(one.front, "overflow", "cut")
    whole = one.encode(lengths(14.0, 10.0))
    assert whole.frames_lost == (0, 0)
    cut = one.encode(lengths(14.0, 13.0, 5.0))
    assert cut.encoder_spans is not None
    assert cut.frames_lost == (100, 100)
    assert [span.stop for span in cut.encoder_spans.spans] == [700, 1350, 1500]
    gone = one.encode(lengths(14.0, 20.0, 5.0))
    assert gone.frames_lost == (450, 250)
    assert gone.encoder_spans is not None
    assert not len(gone.encoder_spans.positions("target_audio"))
    assert len(one.logits(one.inputs(gone))[0]) == len(gone.ids)
    traced = one.trace(lengths(14.0, 13.0, 5.0), outputs="su", site="cross")
    assert float(traced.mass.sum("source").min()) == pytest.approx(1.0, abs=1e-5)
