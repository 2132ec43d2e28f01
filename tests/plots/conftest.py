"""A synthetic run: three conditions, several shots, a control, six utterances; text is preferred in the middle."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

from attnlens.context.prompt import Demonstration, Prompt, Target
from attnlens.context.spans import SOURCES
from attnlens.plots.report import write_report
from attnlens.plots.tokens import keep_tokens
from attnlens.testing import clip, trace
from attnlens.traces.schema import validate
from attnlens.traces.writing import save

mpl.use("agg")
LAYERS, HEADS, UTTERANCES = 6, 4, 6


def part(
    condition: str, shots: int, control: str, *, layers: int = LAYERS, heads: int = HEADS, items: int = UTTERANCES
) -> xr.Dataset:
    """Return the items of one cell of the run, with a preference for text in the middle layers where it is clean."""
    seed = sum(map(ord, f"{condition}{shots}{control}"))
    made = trace(items=items, layers=layers, heads=heads, demos=max(shots, 1), seed=seed)
    mass, tokens, demo_mass = (made[name].values.copy() for name in ("mass", "tokens", "demo_mass"))
    demo_tokens = made["demo_tokens"].values.copy()
    shown = {"asr": (), "icl": ("text", "label"), "micl": ("audio", "text", "label")}[condition] if shots else ()
    text = SOURCES.index("demo_text")
    hill = np.sin(np.linspace(0, np.pi, layers))[None, :, None, None] * (1.0 if control == "none" else 0.2)
    mass[..., text] *= 0.6 + 3 * hill
    demo_mass[..., 1] *= (0.6 + 3 * hill)[..., None]
    mass[..., SOURCES.index("sink")] += 0.8
    for place, name in enumerate(("audio", "text", "label")):
        if name not in shown:
            mass[..., SOURCES.index(f"demo_{name}")] = 0
            tokens[:, SOURCES.index(f"demo_{name}")] = 0
            demo_mass[..., place] = np.nan if not shots else 0
            demo_tokens[..., place] = 0
    total = mass.sum(-1, keepdims=True)
    starts = np.where(demo_tokens > 0, made["demo_start"].values, -1).astype(np.int32)
    gain = 1.0 if control == "none" else 0.4
    changed = made.assign(
        mass=(made.mass.dims, (mass / total).astype(np.float32)),
        demo_mass=(made.demo_mass.dims, (demo_mass / total[..., None]).astype(np.float32)),
        tokens=(made.tokens.dims, tokens),
        demo_tokens=(made.demo_tokens.dims, demo_tokens),
        demo_start=(made.demo_start.dims, starts),
        positions=("item", tokens.sum(1, dtype=np.int32)),
        nll=("item", (made.nll.values * (1 - 0.1 * gain * np.log2(1 + shots))).astype(np.float32)),
    )
    named = {"condition": condition, "control": control}
    changed = changed.assign_coords(
        {name: ("item", [value] * items) for name, value in named.items()}
        | {
            "shots": ("item", np.full(items, shots)),
            "item": [f"{condition}-{shots}-{control}-{n}" for n in range(items)],
        }
    )
    if not shots:
        changed = changed.isel(demo=slice(0))
    return validate(changed)


def together(parts: list[xr.Dataset], demos: int) -> xr.Dataset:
    """Put cells of different shots along one item axis, as a run does."""
    filled = []
    for one in parts:
        wider = one.reindex(demo=np.arange(demos), fill_value={"demo_tokens": 0, "demo_start": -1, "demo_mass": np.nan})
        filled.append(wider)
    return validate(
        xr.concat(filled, "item", data_vars="minimal", coords="minimal", compat="override", join="override")
    )


@pytest.fixture(scope="session")
def run() -> xr.Dataset:
    """Return the whole run."""
    cells: list[tuple[str, int, str]] = [
        ("asr", 0, "none"),
        ("icl", 2, "none"),
        ("micl", 2, "none"),
        ("micl", 4, "none"),
    ]
    cells += [("micl", 2, "mismatched-pairs@0"), ("micl", 4, "mismatched-pairs@0")]
    return together([part(*cell) for cell in cells], 4)


def detail_of(*, layers: int = 2, heads: int = 3, seed: int = 0) -> xr.Dataset:
    """Return token-level detail of one pair and a target; four output tokens, one of which is markup."""
    generator = np.random.default_rng(seed)
    blocks = [("sink", 1), ("demo_audio 1", 5), ("demo_text 1", 4), ("target_audio", 6), ("task", 2), ("output", 4)]
    labels = [name for name, count in blocks for _ in range(count)]
    tokens = ["<b>", "\u05e9\u05dc", "\u6f22", "$x$"]
    texts = [f"k{place}" for place in range(len(labels) - 4)] + tokens
    seconds = np.full(len(labels), np.nan, dtype=np.float32)
    for name, length in (("demo_audio 1", 1.0), ("target_audio", 1.5)):
        places = [place for place, label in enumerate(labels) if label == name]
        seconds[places] = (np.arange(len(places)) + 0.5) * length / len(places)
    weights = generator.gamma(0.4, size=(layers, heads, 4, len(labels)))
    weights = (weights / weights.sum(-1, keepdims=True)).astype(np.float32)
    onto = np.array([[label.split()[0] == source for source in SOURCES] for label in labels], dtype=np.float32)
    return xr.Dataset(
        {
            "weights": (("layer", "head", "token", "key"), weights),
            "token_mass": (("layer", "head", "token", "source"), weights @ onto),
            "received": (("layer", "head", "key"), weights.mean(2)),
            "token_text": ("token", np.array(tokens)),
            "key_text": ("key", np.array(texts)),
            "key_label": ("key", np.array(labels)),
            "seconds": ("key", seconds),
        },
        coords={"layer": np.arange(layers), "head": np.arange(heads), "source": list(SOURCES)},
    )


def prompt_of(control: str = "none") -> Prompt:
    """Return the prompt that the detail is of: a demonstration of one second, a target of one and a half."""
    demo = Demonstration("d", clip(seconds=1.0, seed=1), "</script><b>ima</b>", audio_id="d", text_id="d")
    target = Target("u<0>", clip(seconds=1.5, seed=2), "<img src=x onerror=alert(1)> \u05e9\u05dc\u05d5\u05dd", "xx")
    return Prompt("micl", (demo,), target, applied=() if control == "none" else (f"{control}@0",))


@pytest.fixture(scope="session")
def detail() -> xr.Dataset:
    """Return the token-level detail of an item."""
    return detail_of()


@pytest.fixture(scope="session")
def folder(run: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run directory with tables and token-level detail; tests that write copy it."""
    path = tmp_path_factory.mktemp("runs") / "a run & more"
    save(run, path / "traces.zarr")
    (path / "tables").mkdir()
    rows = ["corpus,condition,shots,control,utterances,cer,cer_low,cer_high,wer,wer_low,wer_high"]
    rows += ["xx,asr,0,none,6,0.8,0.7,0.9,1.0,0.9,1.1", "xx,micl,4,none,6,0.3,0.2,0.4,,,"]
    (path / "tables" / "errors.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (path / "tables" / "knockout.csv").write_text(
        "edge,window,estimate\noutput -> demo_text,0-2,1.5\n", encoding="utf-8"
    )
    (path / "tables" / "ledger.csv").write_text("component,<b>weights</b>\nretriever,none\n", encoding="utf-8")
    (path / "tables" / "empty.csv").write_text("", encoding="utf-8")
    (path / "spec.yaml").write_text("name: <script>alert(2)</script>\n", encoding="utf-8")
    (path / "provenance.json").write_text('{"git": "abc", "host": {"cores": 2}}', encoding="utf-8")
    for seed, control in enumerate(("none", "mismatched-pairs")):
        about: dict[str, Any] = {"utterance": "u<0>", "condition": "micl", "shots": 1, "control": control, "seed": 0}
        keep_tokens(path, f"item-{control}", detail_of(seed=seed), prompt_of(control), about=about)
    return path


@pytest.fixture(scope="session")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of a copy of the run."""
    mine = tmp_path_factory.mktemp("report") / folder.name
    shutil.copytree(folder, mine)
    return write_report(mine, formats=[]).page
