from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from attnlens.context.build import build_prompt
from attnlens.context.prompt import Condition
from attnlens.models.load import load
from attnlens.models.self_check import check_model
from attnlens.organism.hearing import augmented, encode_clips
from attnlens.organism.lessons import side_by_side
from attnlens.organism.model import Size, make_front_end, make_model, save_model
from attnlens.organism.orthography import LETTERS
from attnlens.organism.tokenizer import PHRASES, make_tokenizer
from attnlens.testing import corpus

SIZE = Size(width=32, layers=2, heads=2, encoder_width=16, encoder_layers=1, encoder_heads=2, channels=4)


def test_every_letter_is_one_token_and_any_text_comes_back() -> None:
    tokenizer = make_tokenizer()
    for letter in LETTERS:
        assert len(tokenizer(letter, add_special_tokens=False)["input_ids"]) == 1
    for text in ("te hāpai i ngā mana", "iñapytl'yre eteĩcha g\u0303", "汉字 ŧ"):
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_data_never_reads_as_a_set_phrase() -> None:
    front = make_front_end(SIZE)
    for phrase in PHRASES:
        assert len(front.tokenise(phrase, kind="markup")) == 1
        assert len(front.tokenise(phrase, kind="content")) > 1


@pytest.mark.parametrize("condition", ["asr", "micl", "icl", "a-icl", "t-icl"])
def test_the_default_template_is_a_handful_of_signs(condition: Condition) -> None:
    front, made = make_front_end(SIZE), corpus(pool=2, test=1)
    from attnlens.context.encode import encode

    demonstrations = () if condition == "asr" else made.pool
    encoded = encode(build_prompt(made.test[0], demonstrations, condition=condition), front)
    spans = encoded.spans
    texts = sum(len(one.text or "") + 1 for one in encoded.prompt.demonstrations if one.text)
    audio = len(spans.positions("demo_audio")) + len(spans.positions("target_audio"))
    assert len(encoded.ids) <= texts + audio + 16


def test_clips_together_sound_as_each_alone() -> None:
    front = make_front_end(SIZE)
    model = make_model(front, seed=0).eval()
    rng = np.random.default_rng(0)
    clips = [front.features(rng.normal(0, 0.1, n).astype(np.float32)) for n in (9_000, 16_000, 31_337, 52_800)]
    arrays = side_by_side(clips)
    with torch.no_grad():
        together = encode_clips(
            model.model.audio_tower,
            torch.as_tensor(arrays["input_features"]),
            torch.as_tensor(arrays["input_features_mask"]),
        )
        alone = [
            model.model.audio_tower(
                torch.as_tensor(one.arrays["input_features"]), torch.as_tensor(one.arrays["input_features_mask"])
            ).last_hidden_state
            for one in clips
        ]
    assert [len(one) for one in alone] == [one.positions for one in clips]
    assert torch.allclose(together, torch.cat(alone), atol=2e-5)


def test_augmentation_keeps_the_shape_and_the_padding() -> None:
    windows, mask, clip = torch.randn(5, 80, 100), torch.ones(5, 100, dtype=torch.long), torch.tensor([0, 0, 1, 2, 9])
    mask[2, 20:] = 0
    windows = windows * mask[:, None]
    torch.manual_seed(0)
    one = augmented(windows, mask, clip)
    torch.manual_seed(0)
    assert torch.equal(one, augmented(windows, mask, clip))
    assert one.shape == windows.shape
    assert all(not torch.equal(new, old) for new, old in zip(one, windows, strict=True))
    assert float(one[2, :, 20:].abs().max()) == 0


def test_augmentation_is_one_throat_and_one_room_for_a_clip() -> None:
    windows, mask = torch.zeros(6, 80, 100), torch.ones(6, 100, dtype=torch.long)
    made = augmented(windows, mask, torch.tensor([0, 0, 0, 1, 1, 1])).mean(-1)
    alike = [float((made[0] - made[number]).abs().mean()) for number in (1, 2, 3, 4)]
    assert max(alike[:2]) < 0.3 * min(alike[2:])


def test_a_saved_organism_loads_as_any_checkpoint_and_passes_the_doctor(tmp_path: Path) -> None:
    front = make_front_end(SIZE)
    save_model(make_model(front, seed=0), front, tmp_path / "organism")
    lens = load(str(tmp_path / "organism"), dtype="float32")
    assert lens.family == "qwen3-asr"
    assert check_model(lens).passed
    made = corpus(pool=2, test=1)
    answer = lens.generate(build_prompt(made.test[0], made.pool, condition="micl"), max_new_tokens=5)
    assert len(answer.ids) <= 5
