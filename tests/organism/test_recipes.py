from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnlens.errors import BadInput
from attnlens.models.load import load
from attnlens.organism.body import Body
from attnlens.organism.discrete import DiscreteRecipe, positions_of
from attnlens.organism.encoder import EncoderRecipe
from attnlens.organism.hearing import encode_clips
from attnlens.organism.joint import JointRecipe
from attnlens.organism.labels import frame_labels
from attnlens.organism.languages import Word
from attnlens.organism.lessons import COVERED, END, NEW, NOTHING, UNHEARD, UNPAIRED, collate, make_lesson, stand_in
from attnlens.organism.model import Size, make_front_end
from attnlens.organism.orthography import Orthography, Written
from attnlens.organism.phones import FIRST_VOWEL
from attnlens.organism.plug import plug_in
from attnlens.organism.pool import read_pool, write_pool
from attnlens.train.episodes import EpisodeBuilder
from attnlens.train.loop import train
from attnlens.train.recipe import make_recipe
from attnlens.train.spec import TrainSpec
from tests.organism.conftest import noise_entries

SMALL = {
    "width": 32,
    "layers": 2,
    "heads": 2,
    "encoder_width": 16,
    "encoder_layers": 1,
    "encoder_heads": 2,
    "channels": 4,
}
STAGES = [
    {"phones": 2, "word": [1, 1], "shots": [3, 3]},
    {"phones": 6, "word": [2, 3], "words": [1, 2], "lexicon": 8, "shots": [0, 3], "lasting": [1, 2], "digraphs": 0.3},
]


def discrete(**changes: Any) -> DiscreteRecipe:
    return DiscreteRecipe(**{"seed": 0, "device": "cpu", "stages": STAGES, "size": SMALL, "batch_size": 4, **changes})


def joint(pools: Path, **changes: Any) -> JointRecipe:
    given = {"pool": str(pools / "pool"), "dev_pool": str(pools / "dev"), "size": SMALL, "batch_size": 3}
    small = {"shots": {0: 1, 2: 1}, "dev_lessons": 3, "dev_shots": 2, "plug_clips": 12}
    return JointRecipe(**{"seed": 0, "device": "cpu", **given, **small, **changes})


def plainly(spelling: Orthography, words: list[Word]) -> Written:
    return spelling.write(words, [[0] * len(word) for word in words])


def test_kinds_tell_what_the_pairs_have_shown() -> None:
    spelling = Orthography({1: "k", 2: "a", 3: "sh"})
    words: list[list[Word]] = [[(1, 2)], [(2, 1)], [(1, 2, 3)]]
    front = make_front_end(Size(**SMALL))
    lesson = make_lesson(
        [plainly(spelling, one) for one in words],
        [positions_of(one, (1, 1), np.random.default_rng(0)) for one in words],
        builder=EpisodeBuilder(shots={2: 1.0}, duplicates="keep-text"),
        front=front,
        end_token=front.tokenizer.eos_token_id,
        rng=np.random.default_rng(0),
    )
    spans, prompt = lesson.example.encoded.spans, lesson.example.encoded.prompt
    shown: set[str] = set()
    by_text = {plainly(spelling, one).text: one for one in words}
    for index in (0, 1, None):
        text = prompt.target.text if index is None else prompt.demonstrations[index].text or ""
        positions = spans.positions("output") if index is None else spans.positions("demo_text", demo=index)
        at = positions[len(positions) - len(text) :] - 1
        phones = [phone for phone in by_text[text][0] for _ in spelling.graphemes[phone]]
        assert lesson.kinds[at].tolist() == [COVERED if one in shown else NEW for one in text]
        assert lesson.next_phone[at].tolist() == phones
        assert lesson.own_phone[at].tolist() == [-1, *phones[:-1]]
        assert lesson.kinds[positions[-1]] == END
        assert [front.strings(lesson.example.targets[[one]])[0] for one in at] == list(text)
        shown |= set(text)
    trained = lesson.example.targets >= 0
    # The template's space before a demonstration is trained on, but is no letter.
    assert set(np.flatnonzero(lesson.kinds != NOTHING)) <= set(np.flatnonzero(trained))


def test_text_without_audio_covers_nothing() -> None:
    spelling = Orthography({1: "k", 2: "a"})
    words: list[list[Word]] = [[(1, 2)], [(2, 1)], [(1, 1)]]
    front = make_front_end(Size(**SMALL))
    kinds: dict[str, set[int]] = {}
    for condition in ("icl", "t-icl", "a-icl"):
        lesson = make_lesson(
            [plainly(spelling, one) for one in words],
            [positions_of(one, (1, 1), np.random.default_rng(0)) for one in words],
            builder=EpisodeBuilder(shots={2: 1.0}, conditions={condition: 1.0}, duplicates="keep-text"),
            front=front,
            end_token=1,
            rng=np.random.default_rng(0),
        )
        kinds[condition] = set(lesson.kinds.tolist()) - {NOTHING}
    assert kinds == {"icl": {UNHEARD, UNPAIRED, END}, "t-icl": {UNHEARD}, "a-icl": {NEW, END}}


def test_a_pool_gives_what_the_extractor_gives(pool_folder: Path) -> None:
    pool = read_pool(pool_folder / "pool")
    front = make_front_end(Size(**SMALL))
    rng = np.random.default_rng(5)
    samples = rng.normal(0, 0.1, 13_000).astype(np.float32)
    arrays = front.features(samples).arrays
    heard = int(arrays["input_features_mask"].sum())
    # Beyond what is heard the extractor leaves what the pool fills with silence; neither reaches the encoder's output.
    made = pool.features(0)
    assert made.arrays["input_features"].shape[2] % 100 == 0
    assert made.positions == front.audio_positions(160 * int(made.arrays["input_features_mask"].sum()))
    body = Body(Size(**SMALL), seed=0, middle=1)
    padded = {name: np.array(array) for name, array in arrays.items()}
    padded["input_features"][:, :, heard:] = 0
    with torch.no_grad():
        states = [
            encode_clips(
                body.model.model.audio_tower,
                torch.as_tensor(one["input_features"]),
                torch.as_tensor(one["input_features_mask"]),
            )
            for one in (arrays, padded)
        ]
    assert torch.allclose(states[0], states[1], atol=1e-6)


def test_frame_labels_follow_the_times(pool_folder: Path) -> None:
    pool = read_pool(pool_folder / "pool")
    for number in range(len(pool)):
        phones, marks, starts, stops, words = pool.sounds(number)
        labels = frame_labels(pool, number)
        assert labels.shape == (6, pool.features(number).positions)
        for place in range(labels.shape[1]):
            time = place // 13 * 1000 + place % 13 * 80
            at = [index for index, start in enumerate(starts) if start <= time]
            expected = phones[at[-1]] if at and time < stops[at[-1]] else 0
            assert labels[1, place] == expected
            if expected:
                assert labels[3, place] == (marks[at[-1]] if expected >= FIRST_VOWEL else -100)
                assert labels[5, place] == words[at[-1]]
                assert labels[4, place] == sum(words[: at[-1] + 1] == words[at[-1]]) - 1


def test_the_discrete_stage_learns_its_first_exercise_and_moves_on(tmp_path: Path) -> None:
    spec = TrainSpec(
        recipe="organism-discrete",
        options={"stages": STAGES, "size": SMALL, "batch_size": 4, "pass_at": 0.02, "dev_lessons": 4},
        steps=12,
        evaluate_every=6,
        log_every=4,
        device="cpu",
        optimiser={"rate": 0.003, "warmup": 4, "schedule": "constant"},
    )
    train(spec, tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if "loss" in line]
    assert losses[-1] < losses[0]
    assert (tmp_path / "run" / "model" / "parts.safetensors").exists()


def test_the_curriculum_moves_when_covered_letters_are_right() -> None:
    recipe = discrete(pass_at=0.5)
    words = [recipe.after_step(step, {"covered": 1.0}) for step in range(20)]
    assert [word for word in words if word] == ["stage 1"]
    assert recipe.state()["stage"] == 1
    other = discrete(pass_at=0.5)
    other.set_state(recipe.state())
    assert (other.stage, other.mean) == (recipe.stage, recipe.mean)
    ended = [discrete(stages=STAGES[:1], done_at=0.3).after_step(1, {"covered": 1.0})]
    assert ended == [None]


def test_batches_depend_on_their_generator_alone() -> None:
    recipe = discrete()
    one, two = (recipe.batch(np.random.default_rng(4))[1] for _ in range(2))
    assert np.array_equal(one.ids, two.ids)
    assert not np.array_equal(one.ids, recipe.batch(np.random.default_rng(5))[1].ids)


def test_the_stages_fit_together(pool_folder: Path, tmp_path: Path) -> None:
    def run(recipe: str, name: str, **options: Any) -> dict[str, Any]:
        spec = TrainSpec(
            recipe=recipe,
            options={"size": SMALL, **options},
            steps=6,
            evaluate_every=3,
            log_every=1,
            device="cpu",
            optimiser={"rate": 0.003, "warmup": 2},
        )
        train(spec, tmp_path / name)
        return json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[-1])

    pools = {"pool": str(pool_folder / "pool"), "dev_pool": str(pool_folder / "dev")}
    run("organism-discrete", "discrete", stages=STAGES, batch_size=3, dev_lessons=2)
    told = run("organism-encoder", "encoder", batch_size=8, dev_clips=8, **pools)
    assert {"phone", "phone_v0", "phone_v1"} <= set(told["dev"])
    folders = {"decoder": str(tmp_path / "discrete" / "model"), "encoder": str(tmp_path / "encoder" / "model")}
    told = run(
        "organism-joint",
        "joint",
        batch_size=2,
        shots={0: 1, 2: 1},
        dev_lessons=2,
        dev_shots=2,
        plug_clips=10,
        frozen_ear=3,
        **pools,
        **folders,
    )
    assert {"bits_per_character", "bits_asr", "bits_t-icl", "bits_icl", "bits_micl"} <= set(told["dev"])
    lens = load(str(tmp_path / "joint" / "model"), dtype="float32")
    assert lens.model.config.text_config.hidden_size == SMALL["width"]


def test_half_precision_computes(pool_folder: Path) -> None:
    recipe = joint(pool_folder)
    encoder = EncoderRecipe(
        seed=0,
        device="cpu",
        pool=str(pool_folder / "pool"),
        dev_pool=str(pool_folder / "dev"),
        size=SMALL,
        batch_size=4,
    )
    exercise = discrete()
    for one in (recipe, encoder, exercise):
        batch: Any = one.batch(np.random.default_rng(0))
        with torch.no_grad():
            torch.manual_seed(0)
            full = float(one.loss(batch)[0])
            with torch.autocast("cpu", dtype=torch.bfloat16):
                torch.manual_seed(0)
                half = float(one.loss(batch)[0])
        assert half == pytest.approx(full, rel=0.05)


def test_an_older_pool_is_refused(pool_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(pool_folder / "pool", tmp_path / "pool")
    with np.load(tmp_path / "pool" / "sounds.npz") as sounds:
        kept = {name: sounds[name] for name in sounds if name != "marks"}
    np.savez_compressed(tmp_path / "pool" / "sounds.npz", **kept)
    with pytest.raises(BadInput, match="older form"):
        read_pool(tmp_path / "pool")


def test_episodes_write_stress_as_often_as_asked(pool_folder: Path) -> None:
    for stress, letters in ((0.0, 1), (1.0, 2)):
        recipe = joint(pool_folder, real=0.0, stress=stress, digraphs=0.0)
        most = 0
        # A spelling may leave stress out at the end of words, where a language may have all of it.
        for seed in range(6):
            ways: dict[int, set[str]] = {}
            said = recipe.pool.by_language[seed % 2].tolist()
            for one in recipe._written(recipe.pool, said, np.random.default_rng(seed)):
                for phone, letter in zip(one.phones, one.text, strict=True):
                    ways.setdefault(phone, set()).add(letter)
            most = max(most, *(len(found) for phone, found in ways.items() if phone >= FIRST_VOWEL))
            assert all(len(found) == 1 for phone, found in ways.items() if phone < FIRST_VOWEL)
        assert most == letters


def test_the_ear_is_frozen_until_its_step(pool_folder: Path) -> None:
    recipe = joint(pool_folder, frozen_ear=2)
    # An untrained model's heads may drown a small gradient; what counts is whether there is one.
    batch = recipe.batch(np.random.default_rng(0))
    for step, learns in ((0, False), (2, True)):
        recipe.step = step
        recipe.module.zero_grad()
        loss: Any = recipe.loss(batch)[0]
        loss.backward()
        gradient = recipe.body.model.model.audio_tower.conv2d1.weight.grad
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) is learns


def test_training_sees_what_use_will_see(pool_folder: Path) -> None:
    """A lesson's losses by the batched path are the scores of the wrapped model on the same prompt."""
    from attnlens.models.qwen3_asr import Qwen3AsrBackEnd
    from attnlens.models.scoring import score
    from attnlens.models.speechlm import SpeechLM
    from attnlens.organism.tokenizer import END as END_TOKEN

    recipe = joint(pool_folder)
    recipe.module.eval()
    body = recipe.body
    body.model.generation_config.eos_token_id = body.front.tokenizer.convert_tokens_to_ids(END_TOKEN)
    builder = EpisodeBuilder(shots={2: 1.0}, duplicates="keep-text")
    lesson = recipe._lesson(recipe.pool, builder, np.random.default_rng(1), real=0.5, trained="answer")
    other = recipe._lesson(recipe.pool, builder, np.random.default_rng(2), real=0.5, trained="answer")
    with torch.no_grad():
        # A second lesson in the batch changes nothing: padding is at the end.
        batch = collate([lesson, other])
        both = body.answer_bits(batch, recipe._heard(batch, augment="off", learning=False))
        alone = [collate([one]) for one in (lesson, other)]
        each = [body.answer_bits(one, recipe._heard(one, augment="off", learning=False)) for one in alone]
    assert both == pytest.approx(sum(each), rel=1e-4)
    lens = SpeechLM(Qwen3AsrBackEnd(body.model, body.front), name="organism", family="qwen3-asr")
    encoded = lesson.example.encoded
    answer = len(encoded.prompt.target.text) + 1
    asked = type(encoded)(encoded.prompt, encoded.ids[:-answer], _cut(encoded.spans, answer), encoded.features)
    total = score(lens, asked, [encoded.prompt.target.text], end="eos")[0].total
    assert -total / np.log(2) == pytest.approx(each[0], rel=1e-4)


def _cut(spans: Any, many: int) -> Any:
    from attnlens.context.spans import SpanMap

    kept = [one for one in spans.spans if one.start < len(spans) - many]
    return SpanMap(tuple(kept))


def test_plugging_in_explains_what_a_ridge_can(pool_folder: Path) -> None:
    pool = read_pool(pool_folder / "pool")
    body = Body(Size(**SMALL), seed=0, middle=1)
    few, many = (plug_in(body, pool, clips=len(pool), seed=0, ridge=ridge) for ridge in (1e6, 1e-6))
    # Least squares with a free constant never does worse than the mean; a heavy ridge pulls everything to zero.
    assert few < many
    assert 0 <= many <= 1


def test_bad_stages_and_sizes_are_refused(pool_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no stages"):
        discrete(stages=[])
    with pytest.raises(BadInput, match="stage"):
        discrete(stages=[{"phone": 3}])
    with pytest.raises(BadInput, match="size"):
        discrete(size={"wide": 3})
    with pytest.raises(BadInput, match="not there"):
        discrete(middle=7)
    with pytest.raises(BadInput, match="too small for its shots"):
        joint(pool_folder, shots={16: 1})
    with pytest.raises(BadInput, match="come together"):
        joint(pool_folder, decoder="x")
    with pytest.raises(BadInput, match="no earlier stage"):
        joint(pool_folder, decoder=str(tmp_path), encoder=str(tmp_path))
    with pytest.raises(BadInput, match="no pool"):
        make_recipe("organism-encoder", seed=0, device="cpu", steps=1, options={"pool": "x", "dev_pool": "y"})
    discrete().export(tmp_path / "stage")
    wide = {**SMALL, "width": 64}
    with pytest.raises(BadInput, match="another size"):
        joint(pool_folder, size=wide, decoder=str(tmp_path / "stage"), encoder=str(tmp_path / "stage"))


def test_answers_after_texts_without_audio_weigh_what_is_asked(pool_folder: Path) -> None:
    one = joint(pool_folder, conditions={"icl": 1.0}, shots={2: 1.0}, augment="off", auxiliary=0.0)
    batch = one.batch(np.random.default_rng(0))
    found = []
    for unpaired in (None, 0.1, 1.0):
        other = joint(pool_folder, augment="off", auxiliary=0.0, unpaired=unpaired)
        found.append(float(other.loss(batch)[0].detach()))
    assert found[0] == found[1] != found[2]


def test_a_share_of_languages_that_a_pool_does_not_have_is_refused(tmp_path: Path) -> None:
    for name, real in (("pool", False), ("dev", False), ("real", True)):
        entries = [one for one in noise_entries(languages=2, utterances=8, seed=0) if bool(one.text) == real]
        write_pool(entries, tmp_path / name)
    assert joint(tmp_path, real=0.0).kinds
    with pytest.raises(BadInput, match="no real languages"):
        joint(tmp_path, real=0.3)
    with pytest.raises(BadInput, match="no made-up languages"):
        joint(tmp_path, real=0.3, pool=str(tmp_path / "real"))


def test_stand_ins_are_told_apart() -> None:
    assert [int(stand_in(number).load()[0]) for number in (0, 7, 70_000)] == [0, 7, 70_000]
