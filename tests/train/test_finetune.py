from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile

from attnlens.errors import BadInput, UnknownName
from attnlens.models.load import load
from attnlens.testing import corpus
from attnlens.train.loop import train
from attnlens.train.spec import TrainSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = corpus(pool=4, dev=2, test=1)
    rows = []
    for split, utterances in made.splits.items():
        for one in utterances:
            soundfile.write(tmp_path / f"{one.id}.wav", one.audio.load()[:12_000], 16_000)
            row = {"id": one.id, "audio": f"{one.id}.wav", "text": one.text[:9], "language": "xx", "split": split}
            rows.append(json.dumps(row))
    (tmp_path / "manifest.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path


def spec(folder: Path, **options: object) -> TrainSpec:
    given = {"model": "tiny:qwen3-asr", "corpora": [str(folder)], "shots": {0: 1, 2: 1}, "batch_size": 2}
    return TrainSpec(
        recipe="episodes",
        options={**given, "dev_episodes": 3, **options},
        steps=12,
        evaluate_every=6,
        device="cpu",
        optimiser={"rate": 0.003, "warmup": 2},
    )


def test_a_wrapped_model_learns_and_loads_again(folder: Path) -> None:
    outcome = train(spec(folder), folder / "run")
    devs = [
        json.loads(line)["dev"]["bits_per_character"]
        for line in (folder / "run" / "log.jsonl").read_text().splitlines()
        if "dev" in line
    ]
    # A tiny random model starts at log2(320) bits a byte or worse.
    assert outcome.best == min(devs)
    assert outcome.best is not None
    assert outcome.best < 8.0
    lens = load(str(folder / "run" / "model"))
    assert lens.family == "qwen3-asr"


def test_pools_too_small_for_the_shots_are_refused_before_loading(folder: Path) -> None:
    with pytest.raises(BadInput, match="too small for its shots"):
        train(spec(folder, shots={8: 1}, model="no/such-model"), folder / "run")


def test_a_corpus_without_dev_or_an_unknown_option_is_refused(folder: Path) -> None:
    with pytest.raises(UnknownName, match="shotz"):
        train(spec(folder, shotz={8: 1}), folder / "run")
    manifest = folder / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"dev"', '"test"'))
    with pytest.raises(BadInput, match="dev split"):
        train(spec(folder), folder / "other")


def test_a_corpus_without_text_is_refused(folder: Path) -> None:
    manifest = folder / "manifest.jsonl"
    first, *rest = manifest.read_text().splitlines()
    manifest.write_text("\n".join([json.dumps({**json.loads(first), "text": ""}), *rest]))
    with pytest.raises(BadInput, match="text is empty"):
        train(spec(folder), folder / "run")
    assert not (folder / "run" / "model").exists()
