from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from attnlens.organism.languages import make_language
from attnlens.organism.model import Size, make_front_end
from attnlens.organism.phones import FIRST_VOWEL
from attnlens.organism.pool import Entry, write_pool


def noise_entries(*, languages: int, utterances: int, seed: int) -> Iterator[Entry]:
    """Utterances whose sounds are noise of 100 ms each: the shapes of speech without a synthesiser."""
    rng = np.random.default_rng(seed)
    front = make_front_end(Size(mels=80))
    for number in range(languages):
        language = make_language(f"made-{number}", rng, lexicon=12, length=(2, 4))
        for place in range(utterances):
            real = number == languages - 1
            words = language.phrase(rng, words=(1, 2))
            phones = tuple(phone for word in words for phone in word)
            samples = rng.normal(0, 0.1, 1600 * len(phones) + 800).astype(np.float32)
            made = front.features(samples).arrays
            heard = int(made["input_features_mask"].sum())
            yield Entry(
                made["input_features"][0, :, :heard].T.astype(np.float16),
                phones,
                tuple(int(phone >= FIRST_VOWEL and index % 3 == 0) for index, phone in enumerate(phones)),
                tuple(40 + 100 * index for index in range(len(phones))),
                tuple(140 + 100 * index for index in range(len(phones))),
                tuple(index for index, word in enumerate(words) for _ in word),
                language.name,
                f"xx+v{place % 2}",
                " ".join("".join("abcdefghijklmnopqrstuvwxyz'ñáéíóúü"[phone % 34] for phone in word) for word in words)
                if real
                else "",
            )


@pytest.fixture(scope="session")
def pool_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pools")
    write_pool(noise_entries(languages=3, utterances=8, seed=0), folder / "pool")
    write_pool(noise_entries(languages=2, utterances=6, seed=1), folder / "dev")
    return folder
