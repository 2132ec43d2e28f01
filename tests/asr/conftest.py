from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnlens.asr.ctc import CtcNet
from attnlens.asr.ctc_checkpoint import save
from attnlens.asr.vocabulary import Vocabulary

VOCABULARY = Vocabulary.of(["ka to mi ñu"])
LAYERS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
CONVOLUTIONS = {
    "conv_dim": [8, 8, 8],
    "conv_kernel": [10, 8, 4],
    "conv_stride": [10, 8, 4],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}


def _wav2vec2(**options: Any) -> tuple[Any, Any]:
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    layered = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, **options}
    config = Wav2Vec2Config(**LAYERS, **CONVOLUTIONS, **layered, vocab_size=len(VOCABULARY), pad_token_id=0)
    return Wav2Vec2ForCTC(config), Wav2Vec2FeatureExtractor(
        return_attention_mask=layered["feat_extract_norm"] == "layer"
    )


def _wav2vec2_bert() -> tuple[Any, Any]:
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertForCTC

    config = Wav2Vec2BertConfig(**LAYERS, feature_projection_input_dim=160, vocab_size=len(VOCABULARY), pad_token_id=0)
    return Wav2Vec2BertForCTC(config), SeamlessM4TFeatureExtractor()


def _parakeet() -> tuple[Any, Any]:
    from transformers import ParakeetCTCConfig, ParakeetFeatureExtractor, ParakeetForCTC

    config = ParakeetCTCConfig(
        vocab_size=len(VOCABULARY), pad_token_id=0, encoder_config={**LAYERS, "subsampling_conv_channels": 8}
    )
    return ParakeetForCTC(config), ParakeetFeatureExtractor()


def _hubert() -> tuple[Any, Any]:
    from transformers import HubertConfig, HubertForCTC, Wav2Vec2FeatureExtractor

    config = HubertConfig(**LAYERS, **CONVOLUTIONS, vocab_size=len(VOCABULARY), pad_token_id=0)
    return HubertForCTC(config), Wav2Vec2FeatureExtractor(return_attention_mask=False)


KINDS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "wav2vec2": _wav2vec2,
    "wav2vec2-group-norm": lambda: _wav2vec2(feat_extract_norm="group", do_stable_layer_norm=False),
    "wav2vec2-adapters": lambda: _wav2vec2(adapter_attn_dim=4),
    "wav2vec2-bert": _wav2vec2_bert,
    "parakeet": _parakeet,
    "hubert": _hubert,
}


def tiny_net(kind: str, *, seed: int = 0) -> CtcNet:
    """A random model of a class of transformers whose outputs are not all alike."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, extractor = KINDS[kind]()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith(("lm_head.weight", "ctc_head")) and parameter.dim() > 1:
                    parameter.normal_(std=0.7)
    return CtcNet(model.eval(), extractor, VOCABULARY)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of tiny checkpoints by kind, each written once."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            save(tiny_net(kind), made[kind], dtype="float32")
        return made[kind]

    return folder


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    """A corpus on disk in which each letter is a tone, so that a tiny model can learn it."""
    import soundfile

    folder = tmp_path / "tones"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for split, count in (("pool", 12), ("dev", 4), ("test", 2)):
        for number in range(count):
            text = "".join(rng.choice(list("ab"), 3)) + " " + "".join(rng.choice(list("ab"), 2))
            tones = [np.sin(np.arange(2400) * {"a": 0.2, "b": 0.9, " ": 0.0}[one]) for one in text]
            samples = 0.3 * np.concatenate(tones) + rng.normal(0, 0.003, 2400 * len(text))
            name = f"{split}-{number}"
            soundfile.write(folder / f"{name}.wav", samples, 16_000)
            row = {"id": name, "audio": f"{name}.wav", "text": text, "language": "xx", "split": split}
            rows.append(json.dumps(row))
    (folder / "manifest.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder
