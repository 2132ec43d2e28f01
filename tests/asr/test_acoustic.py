from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnlens.asr.acoustic import CtcModel
from attnlens.asr.ctc import CtcNet
from attnlens.asr.load_acoustic import load_acoustic
from attnlens.asr.vocabulary import Vocabulary
from attnlens.asr.windows import Windows, samples_per_frame
from attnlens.data.audio import Audio
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput, UnsupportedModel

Checkpoints = Callable[[str], Path]
KINDS = ["wav2vec2", "wav2vec2-group-norm", "wav2vec2-bert", "parakeet", "hubert"]


def clip(seconds: float, *, seed: int = 0) -> Audio:
    return Audio.from_array(np.random.default_rng(seed).normal(0, 0.1, int(16_000 * seconds)).astype(np.float32))


def ctc(name: Path, **options: Any) -> CtcModel:
    model = load_acoustic(name, **options)
    assert isinstance(model, CtcModel)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_every_class_loads_batches_and_lists(kind: str, checkpoints: Checkpoints) -> None:
    model = ctc(checkpoints(kind))
    clips = [clip(1.0), clip(1.73, seed=1), clip(0.6, seed=2)]
    together = model.log_probabilities(clips, batch_size=3)
    for one, heard in zip(clips, together, strict=True):
        alone = model.log_probabilities([one])[0]
        np.testing.assert_allclose(heard, alone, atol=2e-5)
        np.testing.assert_allclose(np.exp(heard).sum(1), 1, atol=1e-5)
        assert len(heard) == pytest.approx(one.seconds / model.seconds_per_frame, abs=2)
    lists = model.nbest([Utterance(str(n), one, "", "xx") for n, one in enumerate(clips)], n=5)
    assert [one.utterance_id for one in lists] == ["0", "1", "2"]
    assert all(len(one) == 5 for one in lists)


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2-bert", "parakeet"])
def test_the_best_path_is_what_transformers_decodes(kind: str, checkpoints: Checkpoints) -> None:
    from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

    folder = checkpoints(kind)
    one = clip(1.2, seed=5)
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    given = extractor([one.load()], sampling_rate=16_000, return_tensors="pt")
    given.pop("audio_lengths", None)
    with torch.no_grad():
        logits = AutoModelForCTC.from_pretrained(folder)(**given).logits
    model = ctc(folder)
    heard = model.log_probabilities([one])[0]
    wanted = torch.log_softmax(logits, -1)[0].numpy()[: len(heard)]
    np.testing.assert_allclose(heard, wanted, atol=2e-5)
    path = heard.argmax(1)
    ids = [int(number) for place, number in enumerate(path) if place == 0 or number != path[place - 1]]
    # With skip_special_tokens the blanks would go before repeats are joined, and doubled letters with them.
    said = AutoTokenizer.from_pretrained(folder).decode(torch.tensor(path)).replace("<unk>", "")
    assert model.vocabulary.text(ids).split() == said.split()


def test_frames_are_read_back_from_the_cache(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [clip(1.0), clip(1.0, seed=1), clip(0.7, seed=2)]
    plain = ctc(checkpoints("wav2vec2-bert")).log_probabilities(clips)
    first = ctc(checkpoints("wav2vec2-bert"), cache=tmp_path).log_probabilities(clips)
    assert len(list(tmp_path.glob("*.npy"))) == 3
    model = ctc(checkpoints("wav2vec2-bert"), cache=tmp_path)

    with monkeypatch.context() as patched:
        patched.setattr(model, "_computed", None)
        again = model.log_probabilities(clips)
    for one, two, three in zip(plain, first, again, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-5)
        np.testing.assert_array_equal(two, three)
    # Other weights and other windows are other frames.
    other = ctc(checkpoints("wav2vec2-bert"), cache=tmp_path, window=9.0)
    assert other._key(clips[0]) != model._key(clips[0])


class Local(torch.nn.Module):
    """A model whose frames depend on their own 320 samples alone: windows must give what the whole gives."""

    device, dtype = torch.device("cpu"), torch.float32

    def _get_feat_extract_output_lengths(self, rows: torch.Tensor) -> torch.Tensor:
        return rows // 320

    def forward(self, input_values: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        count = input_values.shape[1] // 320
        cut = input_values[:, : 320 * count].reshape(len(input_values), count, 320)

        class Output:
            logits = torch.stack([cut[..., 0], cut[..., 100], cut[..., -1]], -1)

        return Output


class Plain:
    sampling_rate, return_attention_mask, padding_value, feature_size = 16_000, True, 0.0, 1
    model_input_names = ("input_values",)

    def __call__(self, clips: list[Any], **_: Any) -> dict[str, Any]:
        return {"input_values": [np.asarray(one) for one in clips]}

    def to_json_string(self) -> str:
        return "{}"


@pytest.mark.parametrize("seconds", [0.5, 2.0, 2.013, 2.9, 3.0, 5.5, 7.99])
def test_windows_of_a_local_model_give_exactly_what_the_whole_clip_gives(seconds: float) -> None:
    net = CtcNet(Local(), Plain(), Vocabulary(("", "a", "b"), 0))
    whole = CtcModel(net, name="local", window=100.0)
    cut = CtcModel(net, name="local", window=2.0, overlap=0.6)
    one = clip(seconds)
    np.testing.assert_array_equal(cut.log_probabilities([one])[0], whole.log_probabilities([one])[0])


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2-bert", "parakeet"])
def test_long_audio_has_as_many_frames_as_in_one_piece(kind: str, checkpoints: Checkpoints) -> None:
    one = clip(7.3)
    cut = ctc(checkpoints(kind), window=3.0, overlap=1.0).log_probabilities([one, clip(1.0)])[0]
    whole = ctc(checkpoints(kind)).log_probabilities([one])[0]
    assert cut.shape == whole.shape


def test_windows_cover_everything_once() -> None:
    windows = Windows.of(size=2.0, overlap=0.5, hop=480)
    for samples in (100, 31_999, 32_000, 32_001, 90_001):
        cuts = windows.cut(samples)
        assert cuts[0][0] == 0
        assert cuts[-1][1] == samples
        assert all(later[0] < earlier[1] for earlier, later in itertools.pairwise(cuts))


def test_the_adapter_of_a_language_comes_with_its_own_vocabulary(checkpoints: Checkpoints, tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from transformers import AutoModelForCTC

    folder = tmp_path / "mms"
    shutil.copytree(checkpoints("wav2vec2-adapters"), folder)
    model = AutoModelForCTC.from_pretrained(folder)
    model.init_adapter_layers()
    weights = {name: tensor.clone() for name, tensor in model._get_adapters().items()}
    for name in ("lm_head.weight", "lm_head.bias"):
        weights[name] = torch.ones(4, *weights[name].shape[1:])
    save_file(weights, folder / "adapter.quy.safetensors", {"format": "pt"})
    kept = json.loads((folder / "vocab.json").read_text())
    nested = {"xxx": kept, "quy": {"<pad>": 0, "<unk>": 1, "|": 2, "q": 3}}
    (folder / "vocab.json").write_text(json.dumps(nested))
    told = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**told, "target_lang": "xxx"}))
    assert ctc(folder, language="quy").vocabulary.pieces == ("", "", " ", "q")
    assert "k" in ctc(folder).vocabulary.pieces
    with pytest.raises(BadInput, match="que"):
        ctc(folder, language="que")


def test_a_language_for_a_model_without_adapters_is_refused(checkpoints: Checkpoints) -> None:
    with pytest.raises(BadInput, match="no adapters"):
        load_acoustic(checkpoints("wav2vec2"), language="que")


def test_a_clip_too_short_for_a_frame_is_refused(checkpoints: Checkpoints) -> None:
    for kind in KINDS:
        with pytest.raises(BadInput, match="too short"):
            ctc(checkpoints(kind)).log_probabilities([clip(0.005)])


def test_silence_is_heard_as_something_finite(checkpoints: Checkpoints) -> None:
    silent = Audio.from_array(np.zeros(16_000, np.float32))
    for kind in KINDS:
        assert np.isfinite(ctc(checkpoints(kind)).log_probabilities([silent])[0]).all()


def test_nothing_to_hear_gives_nothing(checkpoints: Checkpoints) -> None:
    assert ctc(checkpoints("wav2vec2")).log_probabilities([]) == []
    assert ctc(checkpoints("wav2vec2")).nbest([]) == []


def test_checkpoints_that_are_not_acoustic_models_are_refused(checkpoints: Checkpoints, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UnsupportedModel, match="neither a CTC model nor Whisper"):
        load_acoustic(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(checkpoints("wav2vec2"), broken)
    (broken / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="does not load"):
        load_acoustic(broken)


def test_a_pretrained_encoder_without_a_head_does_not_transcribe(checkpoints: Checkpoints, tmp_path: Path) -> None:
    from transformers import AutoModelForCTC

    folder = tmp_path / "encoder"
    shutil.copytree(checkpoints("wav2vec2"), folder)
    AutoModelForCTC.from_pretrained(folder).wav2vec2.save_pretrained(folder)
    with pytest.raises(BadInput, match="lacks"):
        load_acoustic(folder)


def test_windows_that_cannot_be_joined_are_refused(checkpoints: Checkpoints) -> None:
    with pytest.raises(BadInput, match="twice as long"):
        load_acoustic(checkpoints("wav2vec2"), window=3.0, overlap=2.0)
    with pytest.raises(UnsupportedModel, match="evenly"):
        samples_per_frame(lambda samples: samples // 7)


def test_memory_of_a_batch(checkpoints: Checkpoints) -> None:
    with pytest.raises(BadInput, match="at least one clip"):
        ctc(checkpoints("wav2vec2")).log_probabilities([clip(1.0)], batch_size=0)
