"""How long does the report take, and does its explorer answer at once? `python benchmarks/report.py [RUN]`

The report is built anew in a copy of RUN, a finished run directory; without one the default run is carried out first,
which takes minutes. The explorer is opened in Chromium (`apt-get install chromium`) on made-up detail in the shape
of a large model: 16 demonstrations, 48 layers, 32 heads. A click is timed until the page is laid out again; the page is
as it is written, so heads that did not fit into it cannot be chosen there either.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from _measure import machine

from attnlens.context.prompt import Demonstration, Prompt, Target
from attnlens.context.spans import SOURCES
from attnlens.plots.report import write_report
from attnlens.plots.tokens import keep_tokens
from attnlens.run.report import report_run
from attnlens.testing import clip, trace
from attnlens.traces.writing import save

LAYERS, HEADS, DEMOS, ITEMS, OUTPUT = 48, 32, 16, 4, 30
AUDIO, TEXT = 38, 25
"""Positions of a clip of three seconds and of its text."""
SECONDS, MILLISECONDS, MEGABYTES = 20.0, 100.0, 10.0
CLICKS = """buttons => buttons.map(button => {
    const start = performance.now();
    button.click();
    document.body.offsetHeight;
    return performance.now() - start;
})"""
CHOICES = """async select => {
    const found = [];
    for (const option of [...select.options].slice(0, 12)) {
        const start = performance.now();
        select.value = option.value;
        select.dispatchEvent(new Event("change", {bubbles: true}));
        document.body.offsetHeight;
        found.push(performance.now() - start);
    }
    return found;
}"""


def main() -> None:
    print(f"{machine()}\n\n| what | measured | at most |\n|---|---:|---:|")
    with tempfile.TemporaryDirectory() as scratch:
        late = built(Path(scratch)) + answered(Path(scratch))
    if late:
        sys.exit("over the limit: " + "; ".join(late))


def built(scratch: Path) -> list[str]:
    """Build the report of a run anew, with the detail of three utterances measured again."""
    folder = scratch / "default"
    if len(sys.argv) > 1:
        shutil.copytree(sys.argv[1], folder)
    else:
        from attnlens import RunSpec, run_spec

        run_spec(RunSpec(), out=folder)
    kept = write_again(folder)
    shutil.rmtree(folder / "tokens", ignore_errors=True)
    start = time.perf_counter()
    made = report_run(folder)
    whole = time.perf_counter() - start
    size = made.bytes / 1e6
    return [
        *row("report of the default run, details kept, s", kept, SECONDS),
        *row("the same, details of three utterances measured too, s", whole, SECONDS),
        *row("its size, MB", size, MEGABYTES),
    ]


def write_again(folder: Path) -> float:
    report_run(folder)
    start = time.perf_counter()
    report_run(folder, utterances=0)
    return time.perf_counter() - start


def answered(scratch: Path) -> list[str]:
    """Click through the explorer of a large model."""
    from playwright.sync_api import sync_playwright

    page = large(scratch / "large")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playing:
        browser = playing.chromium.launch(executable_path=found, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        start = time.perf_counter()
        opened.goto(page.as_uri())
        opened.wait_for_selector("#x-tokens button[aria-pressed=true]")
        first = time.perf_counter() - start
        tokens: list[float] = opened.eval_on_selector_all("#x-tokens button", CLICKS)
        layers: list[float] = opened.eval_on_selector("#x-layer", CHOICES)
        items: list[float] = opened.eval_on_selector("#x-variant", CHOICES)
        browser.close()
    return [
        *row(f"large page opened ({page.stat().st_size / 1e6:.1f} MB), s", first, 5.0),
        *row("click on an output token, median ms", statistics.median(tokens), MILLISECONDS),
        *row("click on an output token, slowest ms", max(tokens), MILLISECONDS),
        *row("another layer, slowest ms", max(layers), MILLISECONDS),
        *row("another variant of the utterance, unpacked and shown, slowest ms", max(items), 10 * MILLISECONDS),
    ]


def large(folder: Path) -> Path:
    """Write a report whose explorer holds an utterance of a large model, as it is and under three controls."""
    save(trace(items=8, layers=LAYERS, heads=HEADS, demos=DEMOS), folder / "traces.zarr")
    (folder / "provenance.json").write_text(json.dumps({"made": "up"}), encoding="utf-8")
    demos = tuple(
        Demonstration(f"d{n}", clip(seconds=3.0, seed=n), "ka " * 8, audio_id=f"d{n}", text_id=f"d{n}")
        for n in range(DEMOS)
    )
    prompt = Prompt("micl", demos, Target("u", clip(seconds=3.0, seed=99), "ka to " * 5, "xx"))
    for number, control in enumerate(("none", "mismatched-pairs", "repeated", "shuffled")[:ITEMS]):
        about: dict[str, Any] = {"utterance": "u", "condition": "micl", "shots": DEMOS, "control": control, "seed": 0}
        keep_tokens(folder, f"item-{number}", detail(number), prompt, about=about)
    return write_report(folder, formats=[]).page


def detail(seed: int) -> xr.Dataset:
    """Return detail in the shape of a large model: weights [layers, heads, output, keys], most of them small."""
    rng = np.random.default_rng(seed)
    blocks = [("sink", 1), ("instruction", 60)]
    for demo in range(DEMOS):
        blocks += [(f"demo_audio {demo + 1}", AUDIO), (f"demo_text {demo + 1}", TEXT)]
    blocks += [("target_audio", AUDIO), ("task", 30), ("output", OUTPUT)]
    labels = [name for name, count in blocks for _ in range(count)]
    seconds = np.full(len(labels), np.nan, dtype=np.float32)
    for name, _ in blocks:
        if "audio" in name:
            places = [place for place, label in enumerate(labels) if label == name]
            seconds[places] = (np.arange(AUDIO) + 0.5) * 3.0 / AUDIO
    weights = rng.standard_gamma(0.1, size=(LAYERS, HEADS, OUTPUT, len(labels)), dtype=np.float32)
    weights /= weights.sum(-1, keepdims=True)
    onto = np.array([[label.split()[0] == source for source in SOURCES] for label in labels], dtype=np.float32)
    return xr.Dataset(
        {
            "weights": (("layer", "head", "token", "key"), weights),
            "token_mass": (("layer", "head", "token", "source"), weights @ onto),
            "received": (("layer", "head", "key"), weights.mean(2)),
            "token_text": ("token", np.array(list("ka to " * 5)[:OUTPUT])),
            "key_text": ("key", np.array([f"k{place}" for place in range(len(labels))])),
            "key_label": ("key", np.array(labels)),
            "seconds": ("key", seconds),
        },
        coords={"layer": np.arange(LAYERS), "head": np.arange(HEADS), "source": list(SOURCES)},
    )


def row(what: str, value: float, most: float) -> list[str]:
    print(f"| {what} | {value:.2f} | {most:g} |", flush=True)
    return [] if value <= most else [f"{what}: {value:.2f}"]


if __name__ == "__main__":
    main()
