"""Stand-ins for other people's tests and for ours: tiny front ends of every family, utterances, corpora.

Everything here is random or synthetic, made on the spot from a seed, without a download. It says nothing about a
language or a model; it has the shapes of things that do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from attnlens.data.audio import RATE, Audio
from attnlens.data.corpus import SPLITS, Corpus, Split
from attnlens.data.utterance import Utterance
from attnlens.models.front import load_front_end
from attnlens.models.frontend import BaseFrontEnd
from attnlens.models.registry import TINY

if TYPE_CHECKING:
    import xarray as xr

    from attnlens.models.speechlm import SpeechLM

__all__ = ["clip", "corpus", "front_end", "tiny", "trace", "utterance"]

SYLLABLES = ("ka", "mi", "su", "ña", "to", "le", "ri", "ŋu")


def clip(*, seconds: float = 1.0, seed: int = 0) -> Audio:
    """Return a tone in noise, different for every seed.

    >>> clip(seconds=0.5).load().shape
    (8000,)
    """
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    tone = 0.3 * np.sin(2 * np.pi * generator.uniform(120, 400) * time)
    return Audio.from_array((tone + 0.02 * generator.standard_normal(len(time))).astype(np.float32))


def utterance(name: str, *, seed: int = 0, speaker: str | None = None, language: str = "xx") -> Utterance:
    """Return an utterance of one to three seconds with a text of a few made-up words.

    >>> utterance("u1", seed=3).text == utterance("u2", seed=3).text
    True
    """
    generator = np.random.default_rng([seed, 1])
    words = ["".join(generator.choice(SYLLABLES, generator.integers(1, 4))) for _ in range(generator.integers(2, 6))]
    audio = clip(seconds=float(generator.uniform(1.0, 3.0)), seed=seed)
    return Utterance(name, audio, " ".join(words), language, speaker=speaker)


def corpus(*, pool: int = 8, dev: int = 2, test: int = 4, seed: int = 0, language: str = "xx") -> Corpus:
    """Return a corpus of synthetic utterances by two speakers.

    >>> made = corpus(pool=3, dev=1, test=2)
    >>> len(made.pool), len(made), made.test[0].id
    (3, 6, 'test-0')
    """
    splits: dict[Split, tuple[Utterance, ...]] = {}
    for offset, (split, count) in enumerate(zip(SPLITS, (pool, dev, test), strict=True)):
        splits[split] = tuple(
            utterance(
                f"{split}-{index}",
                seed=100_000 * seed + 10_000 * offset + index,
                speaker=f"speaker-{index % 2}",
                language=language,
            )
            for index in range(count)
        )
    return Corpus("synthetic", language, splits)


def front_end(family: str) -> BaseFrontEnd:
    """Return tokenizer, extractor and length rule of a tiny stand-in of a family.

    >>> front_end("qwen2-audio").tokenise("né", kind="content")
    [86, 136, 111]
    """
    return load_front_end(TINY + family)


def tiny(family: str, *, seed: int = 0) -> SpeechLM:
    """Return a tiny random model of a family with a working processor, in well under a second and without a download.

    Its query and key weights are scaled up so that attention is peaked; otherwise a test on it would prove little.

    >>> lens = tiny("voxtral", seed=1)
    >>> lens.n_layers, lens.n_heads
    (3, 8)
    """
    from attnlens.models.load import load

    return load(TINY + family, seed=seed)


def trace(
    *,
    items: int = 4,
    layers: int = 3,
    heads: int = 4,
    demos: int = 2,
    measures: Sequence[str] = ("entropy",),
    seed: int = 0,
) -> xr.Dataset:
    """Return a synthetic trace that satisfies the schema: random masses over spans of plausible lengths.

    ``measures`` may hold ``entropy`` and ``received``.

    >>> made = trace(items=3, demos=2)
    >>> made.sizes["source"], bool((abs(made.mass.sum("source") - 1) < 1e-5).all())
    (10, True)
    """
    import xarray as xr

    from attnlens.context.spans import SOURCES
    from attnlens.traces.schema import ATTRIBUTES, MODALITIES, validate

    generator = np.random.default_rng(seed)
    blocks = np.stack([generator.integers(low, high, (items, demos)) for low, high in [(20, 60), (6, 20), (3, 4)]], -1)
    tokens = np.zeros((items, len(SOURCES)), dtype=np.int32)
    lengths = {"sink": 1, "system": 8, "instruction": 10, "target_audio": 30, "task": 8, "output": 12, "other": 9}
    for name, length in lengths.items():
        tokens[:, SOURCES.index(name)] = length
    for place, name in enumerate(["demo_audio", "demo_text", "demo_label"]):
        tokens[:, SOURCES.index(name)] = blocks[..., place].sum(1)
    weights = generator.gamma(0.5, size=(items, layers, heads, 1, len(SOURCES))) * (tokens > 0)[:, None, None, None, :]
    mass = (weights / weights.sum(-1, keepdims=True)).astype(np.float32)
    shares = generator.dirichlet(np.ones(demos), size=(items, layers, heads, 1, len(MODALITIES)))
    sums = np.stack([mass[..., SOURCES.index(f"demo_{name}")] for name in MODALITIES], -1)
    demo_mass = (np.moveaxis(shares, -1, -2) * sums[..., None, :]).astype(np.float32)
    starts = (
        sum(lengths[name] for name in BEFORE) + np.cumsum(blocks.reshape(items, -1), 1).reshape(blocks.shape) - blocks
    )
    per_item = {
        "nll": generator.gamma(4.0, 5.0, items).astype(np.float32),
        "n_output_tokens": np.full(items, 12, np.int32),
        "n_chars": np.full(items, 12, np.int32),
        "positions": tokens.sum(1, dtype=np.int32),
    }
    dataset = xr.Dataset(
        {
            "mass": (("item", "layer", "head", "query", "source"), mass),
            "tokens": (("item", "source"), tokens),
            "query_tokens": (("item", "query"), np.full((items, 1), 12, np.int32)),
            "demo_mass": (("item", "layer", "head", "query", "demo", "modality"), demo_mass),
            "demo_tokens": (("item", "demo", "modality"), blocks.astype(np.int32)),
            "demo_start": (("item", "demo", "modality"), starts.astype(np.int32)),
            "entropy": (("item", "layer", "head", "query"), np.float32(generator.gamma(2, size=mass.shape[:-1]))),
            **{name: (("item",), values) for name, values in per_item.items()},
            **(
                {"received": (("item", "layer", "position"), _spread(mass, demo_mass, tokens, blocks))}
                if "received" in measures
                else {}
            ),
        },
        coords={
            "source": list(SOURCES),
            "modality": list(MODALITIES),
            "layer": np.arange(layers),
            "head": np.arange(heads),
            "query": ["output"],
            "demo": np.arange(demos),
            **({"position": np.arange(int(tokens.sum(1).max()))} if "received" in measures else {}),
            "item": [f"item-{index}" for index in range(items)],
            "utterance": ("item", [f"u{index}" for index in range(items)]),
            "condition": ("item", ["micl"] * items),
            "shots": ("item", np.full(items, demos)),
            "control": ("item", ["none"] * items),
            "seed": ("item", np.zeros(items, dtype=np.int64)),
            "intervention": ("item", ["none"] * items),
            "prompt": ("item", [f"{index:016x}" for index in range(items)]),
        },
        attrs=dict.fromkeys(ATTRIBUTES, "synthetic"),
    )
    return validate(dataset if "entropy" in measures else dataset.drop_vars("entropy"))


BEFORE = ("sink", "system", "instruction")
"""What stands before the demonstrations of a synthetic trace; the rest stands behind them."""


def _spread(mass: np.ndarray, demo_mass: np.ndarray, tokens: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Spread masses evenly over the positions of their spans [items, layers, positions], heads averaged."""
    from attnlens.context.spans import SOURCES

    found = np.full((*mass.shape[:2], int(tokens.sum(1).max())), np.nan, dtype=np.float32)
    behind = [name for name in SOURCES if name not in BEFORE and not name.startswith("demo_")]
    for item in range(len(mass)):
        parts = [(mass[item, :, :, 0, SOURCES.index(name)], tokens[item, SOURCES.index(name)]) for name in BEFORE]
        parts += [
            (demo_mass[item, :, :, 0, demo, place], blocks[item, demo, place])
            for demo, place in np.ndindex(*blocks.shape[1:])
        ]
        parts += [(mass[item, :, :, 0, SOURCES.index(name)], tokens[item, SOURCES.index(name)]) for name in behind]
        row = np.concatenate([np.repeat(part.mean(1)[:, None] / length, length, 1) for part, length in parts], 1)
        found[item, :, : row.shape[1]] = row
    return found
