from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnlens.asr.acoustic import CtcModel
from attnlens.asr.augment import changed_features, changed_waveform
from attnlens.asr.ctc_recipe import AcousticCtcRecipe
from attnlens.asr.load_acoustic import load_acoustic
from attnlens.data.read import read_corpus
from attnlens.errors import BadInput, UnknownName, UnsupportedModel
from attnlens.train.loop import batch_generator, train
from attnlens.train.spec import TrainSpec

Checkpoints = Callable[[str], Path]
SIZE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48, "stride": 4}


class Killed(Exception):
    pass


def spec(folder: Path, *, steps: int = 6, **options: Any) -> TrainSpec:
    given: dict[str, Any] = {"corpora": [str(folder)], "batch_size": 4, "size": SIZE}
    if "model" in options:
        given.pop("size")
    return TrainSpec(
        recipe="acoustic-ctc",
        options={**given, **options},
        steps=steps,
        evaluate_every=3,
        save_every=2,
        device="cpu",
        optimiser={"rate": 0.01, "warmup": 5, "schedule": "linear"},
    )


def recipe(folder: Path, **options: Any) -> AcousticCtcRecipe:
    given = spec(folder, **options).options
    return AcousticCtcRecipe(seed=0, device="cpu", **given)


def test_a_model_from_nothing_learns_tones_and_transcribes_them(spoken: Path, tmp_path: Path) -> None:
    given = spec(spoken, steps=36, augment="off").model_copy(update={"evaluate_every": 12})
    outcome = train(given, tmp_path / "run")
    assert outcome.best is not None
    assert outcome.best < 0.2
    model = load_acoustic(tmp_path / "run" / "model")
    assert isinstance(model, CtcModel)
    assert model.vocabulary.pieces == ("", "", " ", "a", "b")
    corpus = read_corpus(spoken)
    for one, found in zip(corpus.pool, model.nbest(corpus.pool, n=3), strict=True):
        assert found.best.text == one.text


def test_a_killed_run_goes_on_to_the_same_weights(spoken: Path, tmp_path: Path) -> None:
    train(spec(spoken), tmp_path / "whole")

    def kill(step: int, _figures: dict[str, float]) -> None:
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(spec(spoken), tmp_path / "killed", tick=kill)
    train(spec(spoken), tmp_path / "killed")
    one, other = (torch.load(tmp_path / name / "last.pt", weights_only=True)["module"] for name in ("whole", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2-group-norm", "wav2vec2-bert", "parakeet"])
def test_other_classes_are_fine_tuned_with_a_new_head(
    kind: str, spoken: Path, tmp_path: Path, checkpoints: Checkpoints
) -> None:
    train(spec(spoken, steps=2, model=str(checkpoints(kind)), save_as="float16"), tmp_path / "run")
    model = load_acoustic(tmp_path / "run" / "model")
    assert isinstance(model, CtcModel)
    assert len(model.vocabulary) == 5
    assert np.isfinite(model.log_probabilities([read_corpus(spoken).test[0].audio])[0]).all()


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2-bert", "parakeet"])
def test_a_shared_head_keeps_the_rows_of_characters_that_both_have(
    kind: str, spoken: Path, checkpoints: Checkpoints
) -> None:
    before = load_acoustic(checkpoints(kind))
    assert isinstance(before, CtcModel)
    old, made = before.net, recipe(spoken, model=str(checkpoints(kind)), head="shared").net
    shared = {piece for piece in made.vocabulary.pieces if piece} & set(old.vocabulary.pieces)
    assert shared >= {"a", " "}
    pairs = [(made.vocabulary.pieces.index(one), old.vocabulary.pieces.index(one)) for one in sorted(shared)]
    pairs.append((made.vocabulary.blank, old.vocabulary.blank))
    name = "ctc_head" if kind == "parakeet" else "lm_head"
    for one in ("weight", "bias"):
        new, known = (getattr(getattr(net.model, name), one).detach() for net in (made, old))
        assert len(new) == 5
        assert all(torch.equal(new[place], known[source]) for place, source in pairs)
    # What the old vocabulary lacks is drawn anew, as every row is without `head`.
    fresh = recipe(spoken, model=str(checkpoints(kind))).net
    assert not torch.equal(
        getattr(fresh.model, name).weight[pairs[0][0]], getattr(made.model, name).weight[pairs[0][0]]
    )


def test_a_shared_head_needs_something_to_share(spoken: Path, checkpoints: Checkpoints, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no head to share"):
        recipe(spoken, head="shared")
    with pytest.raises(UnknownName, match="kind of head"):
        recipe(spoken, model=str(checkpoints("wav2vec2")), head="old")
    other = tmp_path / "other"
    shutil.copytree(spoken, other)
    manifest = other / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    swapped = [{**row, "text": row["text"].replace("a", "я").replace("b", "ж")} for row in rows]
    manifest.write_text("\n".join(map(json.dumps, swapped)), encoding="utf-8")
    with pytest.raises(BadInput, match="no character of the corpus"):
        recipe(other, model=str(checkpoints("wav2vec2")), head="shared")


def test_a_pretrained_encoder_without_a_head_is_a_beginning(
    spoken: Path, tmp_path: Path, checkpoints: Checkpoints
) -> None:
    from transformers import AutoModelForCTC

    folder = tmp_path / "encoder"
    shutil.copytree(checkpoints("wav2vec2"), folder)
    AutoModelForCTC.from_pretrained(folder).wav2vec2.save_pretrained(folder)
    made = recipe(spoken, model=str(folder))
    loss: Any = made.loss(made.batch(batch_generator(0, 1, 0)))[0]
    loss.backward()


def test_choices_of_what_is_trained(spoken: Path, checkpoints: Checkpoints) -> None:
    def names(made: AcousticCtcRecipe) -> set[str]:
        return {name for name, parameter in made.module.named_parameters() if parameter.requires_grad}

    every = names(recipe(spoken, model=str(checkpoints("wav2vec2"))))
    assert not any("feature_extractor" in name for name in every)
    assert any("encoder" in name for name in every)
    assert names(recipe(spoken, model=str(checkpoints("wav2vec2")), trained="head")) == {
        "lm_head.weight",
        "lm_head.bias",
    }
    adapted = names(recipe(spoken, model=str(checkpoints("wav2vec2-adapters")), trained="adapter"))
    assert all("adapter_layer" in name or name.startswith("lm_head") for name in adapted)
    assert any("adapter_layer" in name for name in adapted)
    with pytest.raises(UnsupportedModel, match="no place for adapters"):
        recipe(spoken, model=str(checkpoints("wav2vec2")), trained="adapter")
    with pytest.raises(UnknownName, match="adapter"):
        recipe(spoken, trained="adaptor")
    with pytest.raises(UnknownName, match="cer, wer"):
        recipe(spoken, metric="per")


def test_a_batch_depends_on_its_generator_alone(spoken: Path) -> None:
    made = recipe(spoken)
    one, again = (made.batch(batch_generator(0, 7, 0)) for _ in range(2))
    for (left, ids), (right, others) in zip(one, again, strict=True):
        np.testing.assert_array_equal(left, right)
        assert ids == others


def test_the_loss_is_that_of_transformers(spoken: Path) -> None:
    made = recipe(spoken, augment="off")
    made.module.eval()
    batch = made.batch(batch_generator(0, 1, 0))
    padded = made.net.padded([features for features, _ in batch])
    labels = torch.full((4, max(len(ids) for _, ids in batch)), -100)
    for row, (_, ids) in enumerate(batch):
        labels[row, : len(ids)] = torch.tensor(ids)
    made.net.model.config.ctc_loss_reduction = "mean"
    padded.pop("lengths")
    with torch.no_grad():
        assert float(made.net.model(**padded, labels=labels).loss) == pytest.approx(
            float(made.loss(batch)[0]), rel=1e-5
        )


def test_characters_of_dev_that_the_pool_lacks_are_counted_as_errors(spoken: Path) -> None:
    change(spoken, "dev-0", text="ccccc")
    found = recipe(spoken).evaluate()
    assert found["unknown"] == pytest.approx(5 / 23)
    assert found["cer"] >= found["unknown"]


def test_both_error_rates_of_dev_are_those_of_jiwer(spoken: Path) -> None:
    jiwer = pytest.importorskip("jiwer")
    made = recipe(spoken, metric="wer")
    made.module.eval()
    said = made._best_paths(made._dev_features)
    texts = [one.text for one in made.dev]
    found = made.evaluate()
    assert made.metric == "wer"
    assert found["wer"] == pytest.approx(jiwer.wer(texts, said))
    assert found["cer"] == pytest.approx(jiwer.cer(texts, said))


def test_training_stops_where_the_named_metric_is_good_enough(spoken: Path, tmp_path: Path) -> None:
    # An untrained model writes nothing right, so that both rates lie near 1; each bound stops one of the two runs.
    given = spec(spoken, steps=6, metric="wer").model_copy(update={"enough": 2.0})
    outcome = train(given, tmp_path / "run")
    assert (outcome.steps, outcome.ended) == (3, "the dev metric is good enough")
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    (dev,) = [row["dev"] for row in rows if "dev" in row]
    assert outcome.best == dev["wer"]


def change(folder: Path, name: str, **fields: Any) -> None:
    path = folder / "manifest.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [{**row, **(fields if row["id"] == name else {})} for row in rows]
    path.write_text("\n".join(map(json.dumps, rows)))


def drop(folder: Path, split: str) -> None:
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if json.loads(line)["split"] != split))


def test_what_cannot_be_learnt_from_is_refused_before_a_model_is_loaded(spoken: Path) -> None:
    with pytest.raises(BadInput, match="nothing to train on"):
        AcousticCtcRecipe(seed=0, device="cpu", corpora=[], model="no/such")
    with pytest.raises(BadInput, match="longer than is trained on"):
        recipe(spoken, longest=0.5, model="no/such")
    with pytest.raises(BadInput, match="no text to learn from"):
        recipe(spoken, normaliser="basic-unicode", model="no/such", **_without_text(spoken))
    drop(spoken, "dev")
    with pytest.raises(BadInput, match="no corpus has a dev split"):
        recipe(spoken, model="no/such")


def _without_text(folder: Path) -> dict[str, Any]:
    change(folder, "pool-3", text="...")
    return {}


@pytest.mark.parametrize("augment", ["on", "off"])
@pytest.mark.parametrize("kind", [None, "wav2vec2"])
def test_more_characters_than_frames_are_refused(
    augment: str, kind: str | None, spoken: Path, checkpoints: Checkpoints
) -> None:
    change(spoken, "pool-0", text="ab" * 200)
    given = {} if kind is None else {"model": str(checkpoints(kind))}
    made = recipe(spoken, augment=augment, batch_size=12, **given)
    # A batch is the whole pool.
    with pytest.raises(BadInput, match="more characters than its clip has frames"):
        made.batch(batch_generator(0, 0, 0))


def test_the_delimiter_in_the_text_is_refused(spoken: Path) -> None:
    change(spoken, "pool-0", text="a|b")
    with pytest.raises(BadInput, match="cannot be written"):
        recipe(spoken)


def test_bad_options(spoken: Path, tmp_path: Path, checkpoints: Checkpoints) -> None:
    with pytest.raises(BadInput, match="a size is given"):
        recipe(spoken, model=str(checkpoints("wav2vec2")), size=SIZE)
    with pytest.raises(UnknownName, match="hiden_size"):
        recipe(spoken, size={"hiden_size": 3})
    with pytest.raises(BadInput, match="nothing to begin"):
        recipe(spoken, model=str(tmp_path))


def test_changed_features_keep_their_kind() -> None:
    frames = np.random.default_rng(0).normal(size=(50, 240)).astype(np.float32)
    for seed in range(20):
        made = changed_features(frames, np.random.default_rng(seed), mels=80)
        assert made.dtype == np.float32
        assert made.shape[1] == 240
        assert 40 < len(made) < 60
        assert np.isfinite(made).all()
    assert changed_features(frames[:1], np.random.default_rng(0), mels=80).shape[1] == 240
    assert np.isfinite(changed_features(np.zeros((1, 80), np.float32), np.random.default_rng(0), mels=80)).all()


def test_changed_waveforms_keep_their_kind() -> None:
    samples = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    for seed in range(10):
        made = changed_waveform(samples, np.random.default_rng(seed))
        assert 13_000 < len(made) < 19_000
        assert np.isfinite(made).all()
    assert len(changed_waveform(samples[:1], np.random.default_rng(0))) == 1
