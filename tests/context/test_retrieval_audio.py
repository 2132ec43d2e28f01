from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as hf
from numpy.typing import NDArray

from attnlens.context.retrieval import Query, retrieve
from attnlens.context.retrieval.audio_encoders import mean_and_std, summarised
from attnlens.context.retrieval.logmel import LogMel
from attnlens.context.retrieval.speech_encoder import SpeechEncoder
from attnlens.data.audio import Audio
from attnlens.data.cache import ArrayCache
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput

CONVOLUTIONAL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 10,
}


def clip(seed: int, samples: int | None = None) -> Audio:
    rng = np.random.default_rng(seed)
    length = samples or int(rng.integers(1600, 9000))
    tone = np.sin(np.arange(length) * rng.uniform(0.05, 2.5)) * rng.uniform(0.05, 0.5)
    return Audio.from_array((tone + rng.normal(0, 0.02, length)).astype(np.float32))


def utterance(number: int) -> Utterance:
    words = np.random.default_rng([number, 7]).choice(["ama", "bari", "cu", "delo"], size=3)
    return Utterance(f"u{number}", clip(number), " ".join(words) + f" n{number}", "xxx")


POOL = [utterance(number) for number in range(9)]
QUERIES = [Query(utterance(number), hypothesis=f"ama cu n{number}") for number in (50, 51, 52)]


def naive_logmel(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Frame by frame, band by band, with the Fourier transform of numpy."""
    centres = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42) / 2595) - 1)
    frames = []
    for begin in range(0, len(samples) - 400 + 1, 160):
        windowed = np.zeros(512)
        windowed[:400] = samples[begin : begin + 400] * np.hanning(400)
        power = np.abs(np.fft.fft(windowed)[:257]) ** 2
        bands = []
        for low, middle, high in zip(centres, centres[1:], centres[2:], strict=False):
            energy = 0.0
            for index, energy_at in enumerate(power):
                hertz = index * 16_000 / 512
                if low < hertz <= middle:
                    energy += energy_at * (hertz - low) / (middle - low)
                elif middle < hertz < high:
                    energy += energy_at * (high - hertz) / (high - middle)
            bands.append(np.log(max(energy, 1e-10)))
        frames.append(bands)
    return np.array(frames)


def test_log_mel_frames_equal_the_definition() -> None:
    audio = clip(3, 2000)
    frames = LogMel().frames(audio)
    assert frames.dtype == np.float32
    assert np.allclose(frames, naive_logmel(audio.load()), atol=2e-3)


def test_every_band_hears_something_and_short_and_silent_clips_stay_finite() -> None:
    noise = LogMel().frames(Audio.from_array(np.random.default_rng(0).normal(0, 0.3, 16_000).astype(np.float32)))
    assert (noise.min(axis=0) > -20).all()
    for samples in (np.zeros(8000), np.ones(1), np.ones(399)):
        frames = LogMel().frames(Audio.from_array(samples.astype(np.float32)))
        assert np.isfinite(frames).all()
        assert len(frames) >= 1


def standardised_cosines(query: Utterance, pool: list[Utterance]) -> list[float]:
    def row(utterance: Utterance) -> NDArray[np.float64]:
        frames = LogMel().frames(utterance.audio).astype(float)
        return np.concatenate([frames.mean(axis=0), frames.std(axis=0)])

    rows = np.array([row(item) for item in pool])
    centre, spread = rows.mean(axis=0), rows.std(axis=0)
    asked = (row(query) - centre) / spread
    near = (rows - centre) / spread
    return [float(asked @ item / np.linalg.norm(asked) / np.linalg.norm(item)) for item in near]


def test_audio_without_a_model_is_the_cosine_of_standardised_statistics() -> None:
    for query, ranking in zip(QUERIES, retrieve(QUERIES, POOL, k=9, retriever="audio"), strict=True):
        expected = standardised_cosines(query.utterance, POOL)
        assert ranking.ids == tuple(POOL[n].id for n in np.argsort([-value for value in expected]))
        assert ranking.scores == pytest.approx(sorted(expected, reverse=True), abs=1e-5)


def test_a_noisier_copy_of_the_target_is_the_nearest_by_audio() -> None:
    target = QUERIES[0].utterance
    noise = np.random.default_rng(0).normal(0, 0.005, len(target.audio.load())).astype(np.float32)
    copy = Utterance("copy", Audio.from_array(target.audio.load() + noise), "other words", "xxx")
    for retriever in ("audio", "kl"):
        assert retrieve(QUERIES[:1], [*POOL, copy], k=1, retriever=retriever)[0].ids == ("copy",)


def test_text_and_audio_is_the_sum_of_both_cosines() -> None:
    parts = [
        {id_: score for ranking in retrieve([query], POOL, k=9, retriever=name) for id_, score in zip(
            ranking.ids, ranking.scores, strict=True)}
        for name in ("text", "audio") for query in QUERIES
    ]  # fmt: skip
    for index, ranking in enumerate(retrieve(QUERIES, POOL, k=9, retriever="text+audio")):
        text, audio = parts[index], parts[index + len(QUERIES)]
        total = {id_: text[id_] + audio[id_] for id_ in text}
        assert list(ranking.ids) == sorted(total, key=lambda id_: -total[id_])
        assert ranking.scores == pytest.approx(sorted(total.values(), reverse=True), abs=1e-8)


def test_a_pool_of_one_has_no_spread_and_still_ranks() -> None:
    assert retrieve(QUERIES[:1], POOL[:1], k=1, retriever="audio")[0].ids == ("u0",)


class FirstSamples:
    """Frames that are the samples themselves, and a count of how often they were asked for."""

    identity = "first-samples"

    def __init__(self) -> None:
        self.calls = 0

    def frames(self, audio: Audio) -> NDArray[np.float32]:
        self.calls += 1
        return audio.load()[:1600].reshape(-1, 8)


def test_any_encoder_can_stand_in_and_its_means_are_compared_as_they_are() -> None:
    ranking = retrieve(QUERIES[:1], POOL, k=9, retriever="audio", encoder=FirstSamples())[0]

    def row(item: Utterance) -> NDArray[np.float64]:
        return item.audio.load()[:1600].reshape(-1, 8).mean(axis=0).astype(float)

    asked = row(QUERIES[0].utterance)
    expected = [float(asked @ row(item) / np.linalg.norm(asked) / np.linalg.norm(row(item))) for item in POOL]
    assert ranking.ids == tuple(POOL[n].id for n in np.argsort([-value for value in expected]))


def test_clips_are_summarised_once_and_found_by_their_content(tmp_path: Path) -> None:
    encoder, cache = FirstSamples(), ArrayCache(tmp_path)
    first = summarised(POOL, encoder, mean_and_std, name="mean-and-std", cache=cache)
    again = [Utterance(f"renamed {n}", Audio.from_array(item.audio.load()), "", "x") for n, item in enumerate(POOL)]
    assert np.array_equal(summarised(again, encoder, mean_and_std, name="mean-and-std", cache=cache), first)
    assert encoder.calls == len(POOL)
    summarised(POOL, encoder, mean_and_std, name="another summary", cache=cache)
    assert encoder.calls == 2 * len(POOL)


def test_numbers_that_are_not_finite_are_refused_with_the_utterance() -> None:
    class Overflowing(FirstSamples):
        def frames(self, audio: Audio) -> NDArray[np.float32]:
            return np.full((2, 3), np.inf, dtype=np.float32)

    with pytest.raises(BadInput, match="the audio of 'u0' gives numbers that are not finite"):
        summarised(POOL, Overflowing(), lambda frames: frames[0], name="first", cache=None)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whisper")
    torch.manual_seed(0)
    config = hf.WhisperConfig(
        vocab_size=20, d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=16, max_source_positions=100,
        max_target_positions=8, pad_token_id=1, bos_token_id=2, eos_token_id=3, decoder_start_token_id=4,
    )  # fmt: skip
    hf.WhisperModel(config).save_pretrained(path)
    hf.WhisperFeatureExtractor(feature_size=16, chunk_length=2).save_pretrained(path)
    return path


@pytest.mark.parametrize(("samples", "frames"), [(32_000, 100), (16_000, 50), (16_001, 51), (7_777, 25), (400, 2)])
def test_of_whisper_states_only_those_of_the_clip_are_kept(whisper: Path, samples: int, frames: int) -> None:
    audio = clip(1, samples)
    kept = SpeechEncoder(str(whisper)).frames(audio)
    assert kept.shape == (frames, 16)

    model = hf.WhisperModel.from_pretrained(whisper).eval()
    features = hf.WhisperFeatureExtractor.from_pretrained(whisper)(
        audio.load(), sampling_rate=16_000, return_tensors="pt"
    )
    with torch.inference_mode():
        every = model.encoder(features.input_features).last_hidden_state[0].numpy()
    assert every.shape == (100, 16)
    assert np.allclose(kept, every[:frames], atol=1e-5)
    if frames < 50:
        # What an unmasked mean would be: mostly silence.
        assert not np.allclose(kept.mean(axis=0), every.mean(axis=0), atol=1e-3)


class FrameByFrame(torch.nn.Module):
    """An encoder whose states see one frame each, and whose padding is full of rubbish."""

    def forward(
        self, input_features: torch.Tensor, *, attention_mask: torch.Tensor, output_hidden_states: bool
    ) -> SimpleNamespace:
        assert not output_hidden_states
        states = input_features.transpose(1, 2)[:, ::2].clone()
        states[:, ~attention_mask[0, ::2].bool()] = 1e6
        return SimpleNamespace(last_hidden_state=states)

    def _get_feat_extract_output_lengths(self, length: torch.Tensor) -> torch.Tensor:
        return (length - 1) // 2 + 1


@pytest.mark.parametrize("variant", ["softmax-mean", "js", "gaussian", "codebook"])
def test_divergences_do_not_depend_on_how_far_clips_are_padded(variant: str, whisper: Path) -> None:
    rankings = []
    for window in (1, 4):
        encoder = SpeechEncoder(str(whisper))
        encoder.encoder = FrameByFrame()
        encoder.extractor = hf.WhisperFeatureExtractor(feature_size=16, chunk_length=window)
        rankings.append(retrieve(QUERIES, POOL, k=9, retriever="kl", variant=variant, codes=4, encoder=encoder))
    for near, far in zip(*rankings, strict=True):
        assert near.ids == far.ids
        assert near.scores == pytest.approx(far.scores, rel=1e-4, abs=1e-6)
        assert near.scores[0] > -1e3


def test_layers_are_chosen_by_number(whisper: Path) -> None:
    audio = clip(2, 5000)
    first, last = (SpeechEncoder(str(whisper), layer=layer) for layer in (0, 2))
    assert first.frames(audio).shape == last.frames(audio).shape == (16, 16)
    assert not np.allclose(first.frames(audio), last.frames(audio), atol=1e-3)
    assert len({first.identity, last.identity, SpeechEncoder(str(whisper)).identity}) == 3
    with pytest.raises(BadInput, match="has no such layer") as caught:
        SpeechEncoder(str(whisper), layer=3).frames(audio)
    assert "to 2" in str(caught.value.present)


def test_clips_that_an_encoder_cannot_hear_whole_are_refused(whisper: Path) -> None:
    encoder = SpeechEncoder(str(whisper))
    with pytest.raises(BadInput, match="longer than the speech encoder") as caught:
        encoder.frames(clip(1, 32_001))
    assert caught.value.present == "2 s"
    with pytest.raises(BadInput, match="too short for the speech encoder"):
        encoder.frames(clip(1, 399))


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2-ctc", "hubert", "wavlm", "w2v-bert"])
def test_other_encoders_give_the_states_of_their_own_forward_pass(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    extractor: hf.FeatureExtractionMixin = hf.Wav2Vec2FeatureExtractor()
    if kind == "w2v-bert":
        extractor = hf.SeamlessM4TFeatureExtractor()
        model = hf.Wav2Vec2BertModel(hf.Wav2Vec2BertConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=10,
            feature_projection_input_dim=160, conv_depthwise_kernel_size=3))  # fmt: skip
    elif kind == "hubert":
        model = hf.HubertModel(hf.HubertConfig(**CONVOLUTIONAL))
    elif kind == "wavlm":
        model = hf.WavLMModel(hf.WavLMConfig(**CONVOLUTIONAL))
    else:
        made = hf.Wav2Vec2Model if kind == "wav2vec2" else hf.Wav2Vec2ForCTC
        model = made(hf.Wav2Vec2Config(**CONVOLUTIONAL))
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)

    audio = clip(4, 6000)
    inputs = extractor(audio.load(), sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        states = model.base_model.eval()(**inputs).last_hidden_state[0].numpy()
    frames = SpeechEncoder(str(tmp_path)).frames(audio)
    assert len(frames) == 18
    assert np.allclose(frames, states[: len(frames)], atol=1e-5)


def test_a_named_encoder_is_retrieved_with(whisper: Path, tmp_path: Path) -> None:
    encoder = SpeechEncoder(str(whisper))

    def row(item: Utterance) -> NDArray[np.float64]:
        return encoder.frames(item.audio).astype(float).mean(axis=0)

    asked = row(QUERIES[0].utterance)
    expected = [float(asked @ row(item) / np.linalg.norm(asked) / np.linalg.norm(row(item))) for item in POOL]
    for _ in range(2):
        ranking = retrieve(QUERIES[:1], POOL, k=9, retriever="audio", encoder=str(whisper), cache=ArrayCache(tmp_path))[
            0
        ]
        assert ranking.ids == tuple(POOL[n].id for n in np.argsort([-value for value in expected]))
        assert ranking.scores == pytest.approx(sorted(expected, reverse=True), abs=1e-6)


def test_checkpoints_that_are_not_what_they_should_be_are_refused(tmp_path: Path, whisper: Path) -> None:
    with pytest.raises(BadInput, match=r"'\./gone' does not exist"):
        SpeechEncoder("./gone")
    with pytest.raises(BadInput, match="could not be loaded"):
        SpeechEncoder(str(tmp_path))
    hf.Wav2Vec2Model(hf.Wav2Vec2Config(**CONVOLUTIONAL)).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="could not be loaded"):
        SpeechEncoder(str(tmp_path))
    hf.Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="listens at another rate"):
        SpeechEncoder(str(tmp_path))
    with pytest.raises(BadInput, match="a layer was chosen, but no speech encoder"):
        retrieve(QUERIES, POOL, k=1, retriever="audio", layer=3)
