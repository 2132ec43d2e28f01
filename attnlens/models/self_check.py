"""Does attnlens see this model exactly? Every claim is measured on a probe, once per set of weights."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from attnlens.context.build import build_prompt
from attnlens.context.encode import Encoded
from attnlens.context.prompt import Condition, Prompt
from attnlens.data.audio import RATE, Audio
from attnlens.data.utterance import Utterance
from attnlens.errors import SelfCheckFailed, UnsupportedModel
from attnlens.models.chat import markup_difference

if TYPE_CHECKING:
    from torch import Tensor

    from attnlens.models.speechlm import SpeechLM

__all__ = ["CheckTable", "Finding", "check_model", "ensure_checked", "probe"]

LIMITS = {"torch.float32": 1e-4, "torch.float16": 1e-2, "torch.bfloat16": 5e-2}
"""How far masses may be from eager softmax. Half-precision models differ that much between two of their own kernels."""
LOGITS = {"torch.float32": 1e-3, "torch.float16": 5e-2, "torch.bfloat16": 3e-1}
ROW_SUM = 1e-4


@dataclass(frozen=True)
class Finding:
    """One claim: what was measured, against which limit.

    A ``required`` claim that fails makes the model unusable, one of ``batching`` switches batches off, a ``note`` is
    for the reader.
    """

    claim: str
    passed: bool
    measured: str
    limit: str
    seconds: float
    weight: Literal["required", "batching", "note"] = "required"


@dataclass(frozen=True)
class CheckTable:
    """What the doctor found for a model."""

    model: str
    weights: str
    dtype: str
    positions: int
    findings: tuple[Finding, ...]
    peak_mb: float

    @property
    def passed(self) -> bool:
        """Whether every required claim holds."""
        return all(finding.passed for finding in self.findings if finding.weight == "required")

    @property
    def batching_exact(self) -> bool:
        """Whether prompts may share a batch without changing each other."""
        return all(finding.passed for finding in self.findings if finding.weight == "batching")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self) | {"passed": self.passed}


def probe(*, condition: Condition = "micl", shots: int = 2, seed: int = 0) -> Prompt:
    """Return a prompt of tones in noise with made-up texts: enough to exercise every span.

    >>> probe(shots=1).shots
    1
    """
    generator = np.random.default_rng(seed)

    def utterance(name: str, seconds: float, text: str) -> Utterance:
        times = np.arange(int(seconds * RATE)) / RATE
        tone = 0.2 * np.sin(2 * np.pi * generator.uniform(150, 400) * times)
        samples = tone + 0.02 * generator.standard_normal(len(times))
        return Utterance(name, Audio.from_array(samples.astype(np.float32)), text, "und")

    demos = [utterance(f"probe-{i}", 0.9 + 0.3 * i, text) for i, text in enumerate(["mana tuka", "lima suti kuna"])]
    return build_prompt(utterance("probe-target", 1.1, "kuna mana"), demos[:shots], condition=condition, shots=shots)


def check_model(lens: SpeechLM, *, tick: Callable[[str], None] | None = None) -> CheckTable:
    """Measure every claim on a probe; nothing is raised, the table says what failed."""
    import torch

    from attnlens.models.fingerprint import fingerprint

    encoded = lens.encode(probe(), "kuna mana")
    if lens.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(lens.device)
    findings = []
    for check in CHECKS:
        if tick:
            tick(check.__doc__ or "")
        start = time.perf_counter()
        try:
            finding = check(lens, encoded)
        except (SelfCheckFailed, UnsupportedModel) as error:
            finding = Finding((check.__doc__ or "").rstrip("."), False, error.message, "no error", 0.0)
        findings.append(Finding(**{**asdict(finding), "seconds": time.perf_counter() - start}))
    on_gpu = lens.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(lens.device) / 2**20 if on_gpu else _process_peak()
    return CheckTable(lens.name, fingerprint(lens.model), str(lens.dtype), len(encoded.ids), tuple(findings), peak)


def _process_peak() -> float:
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def ensure_checked(lens: SpeechLM) -> CheckTable:
    """Return the table of this model's weights, measuring it at the first call; refuse the model when it fails.

    The result is kept in ``~/.cache/attnlens`` under the hash of the weights and the versions that computed it.
    """
    known: CheckTable | None = lens.__dict__.get("_checked")
    if known is None:
        known = _remembered(lens) or _remember(lens, check_model(lens))
        lens.__dict__["_checked"] = known
    failed = [finding for finding in known.findings if finding.weight == "required" and not finding.passed]
    if failed:
        raise SelfCheckFailed(
            f"{lens.name} fails its self-check: {failed[0].claim}",
            given=f"measured {failed[0].measured}",
            present=f"limit {failed[0].limit}",
            fix=f"see `attnlens doctor {lens.name}`; numbers read from this model would be wrong",
        )
    return known


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().max())


def _small(claim: str, value: float, limit: float, *, weight: Literal["required", "batching"] = "required") -> Finding:
    return Finding(claim, bool(value <= limit), f"{value:.2g}", f"{limit:.0e}", 0.0, weight)


def _exactly(claim: str, holds: bool, measured: str) -> Finding:
    return Finding(claim, holds, measured, "exact", 0.0)


def _spans(lens: SpeechLM, encoded: Encoded) -> Finding:
    """Spans partition the prompt."""
    total = sum(len(span) for span in encoded.spans)
    return _exactly("spans partition the prompt", total == len(encoded.ids), f"{total} of {len(encoded.ids)} positions")


def _audio(lens: SpeechLM, encoded: Encoded) -> Finding:
    """Audio placeholders equal audio features."""
    lens.inputs(encoded)  # refuses when the encoder's embeddings do not fill the positions
    due = sum(clip.positions for clip in encoded.features)
    return _exactly(
        "audio placeholders equal audio features", True, f"{due} positions of {len(encoded.features)} clips"
    )


def _bit_identical(lens: SpeechLM, encoded: Encoded) -> Finding:
    """Capture leaves the logits bit-identical."""
    inputs = lens.inputs(encoded)
    bare = lens.logits(inputs)
    with _mass(lens, encoded):
        watched = lens.logits(inputs)
    difference = _difference(bare, watched)
    return _exactly("capture leaves the logits bit-identical", bool((bare == watched).all()), f"{difference:.2g} apart")


def _rows_sum(lens: SpeechLM, encoded: Encoded) -> Finding:
    """Masses of a row sum to 1."""
    with _mass(lens, encoded) as record:
        lens.logits(lens.inputs(encoded), keep=1)
    return _small("masses of a row sum to 1", float((record.stacked("mass").sum(-1) - 1).abs().max()), ROW_SUM)


def _eager(lens: SpeechLM, encoded: Encoded) -> Finding:
    """Masses equal eager attention."""
    import torch

    inputs = lens.inputs(encoded)
    with _mass(lens, encoded) as record:
        lens.logits(inputs, keep=1)
    onto = torch.nn.functional.one_hot(_sources(lens, encoded), num_classes=10).float()
    worst = 0.0
    with _eager_weights(lens) as weights:
        lens.logits(inputs, keep=1)
    for layer, found in enumerate(weights):
        worst = max(worst, _difference(found.float() @ onto, record.stacked("mass")[layer]))
    return _small("masses equal eager attention", worst, LIMITS.get(str(lens.dtype), 5e-2))


def _knockout(lens: SpeechLM, encoded: Encoded) -> Finding:
    """A knockout changes the logits, and leaves no mass on what was cut."""
    from attnlens.context.spans import SOURCES
    from attnlens.models.interventions import edits_for, knockout

    inputs = lens.inputs(encoded)
    bare = lens.logits(inputs)
    with knockout(lens, queries="output", keys="demo_text"), _mass(lens, encoded, edits_for(lens, encoded)) as record:
        cut = lens.logits(inputs)
    begin = int(encoded.spans.positions("output")[0]) - 1
    left = float(record.stacked("mass")[:, :, :, begin:, SOURCES.index("demo_text")].max())
    moved = _difference(bare[:, begin:], cut[:, begin:])
    kept = bool((bare[:, :begin] == cut[:, :begin]).all())
    claim = "a knockout changes the logits of its rows, no others, and leaves no mass"
    return _exactly(claim, moved > 0 and left == 0 and kept, f"logits moved by {moved:.2g}, {left:.2g} mass left")


def _cached(lens: SpeechLM, encoded: Encoded) -> Finding:
    """Scoring with a shared prefix equals full forwards."""
    from attnlens.models.scoring import score

    prompt = lens.encode(encoded.prompt)
    texts = ["kuna mana", "suti"]
    worst = 0.0
    fast = score(lens, prompt, texts)
    for text, found in zip(texts, fast, strict=True):
        whole = lens.encode(encoded.prompt, text)
        logits = lens.logits(lens.inputs(whole))[0].float()
        positions = whole.spans.positions("output")
        logprobs = logits[positions - 1].log_softmax(-1)
        gold = logprobs[range(len(positions)), whole.ids[positions]].sum()
        worst = max(worst, abs(float(gold) - found.total))
    return _small("scoring with a shared prefix equals full forwards", worst, LOGITS.get(str(lens.dtype), 3e-1))


def _batch(lens: SpeechLM, encoded: Encoded) -> Finding:
    """A batch of two equals two batches of one."""
    other = lens.encode(probe(shots=1, seed=1), "suti")
    both = lens.logits(lens.inputs([encoded, other]), keep=1)
    alone = [lens.logits(lens.inputs(one), keep=1) for one in (encoded, other)]
    worst = max(_difference(both[index], one[0]) for index, one in enumerate(alone))
    claim = "a batch of two equals two batches of one"
    return _small(claim, worst, LOGITS.get(str(lens.dtype), 3e-1), weight="batching")


def _template(lens: SpeechLM, encoded: Encoded) -> Finding:
    """The default template writes turns as the checkpoint's own chat template does."""
    claim = "turns are written as the checkpoint's chat template writes them"
    difference = markup_difference(lens.front)
    measured = {None: "no chat template", "": "equal"}.get(difference, difference or "")
    return Finding(claim, not difference, measured, "equal", 0.0, "note")


CHECKS = (_spans, _audio, _bit_identical, _rows_sum, _eager, _knockout, _cached, _batch, _template)


def _sources(lens: SpeechLM, encoded: Encoded) -> Tensor:
    import torch

    return torch.as_tensor(encoded.spans.sources().astype(np.int64), device=lens.device)[None]


@contextlib.contextmanager
def _eager_weights(lens: SpeechLM) -> Iterator[list[Tensor]]:
    """Collect the n x n weights of every layer from transformers' own eager attention, which knows nothing of us."""
    weights: list[Tensor] = []
    before = lens.decoder.config._attn_implementation
    hooks = [
        layer.attention_output.module.register_forward_hook(lambda module, given, made: weights.append(made[1]))
        for layer in lens.layers
    ]
    try:
        lens.decoder.set_attn_implementation({"": "eager"})
        yield weights
    finally:
        lens.decoder.set_attn_implementation({"": before})
        for hook in hooks:
            hook.remove()


def _mass(lens: SpeechLM, encoded: Encoded, edits: Any = ()) -> Any:
    from attnlens.capture.attention import capture
    from attnlens.capture.request import Request

    return capture(lens.sites, Request(groups=_sources(lens, encoded), n_groups=10), edits)


def _place(lens: SpeechLM) -> Path:
    import torch
    import transformers

    from attnlens import __version__
    from attnlens.models.fingerprint import fingerprint

    versions = f"{__version__}-{torch.__version__}-{transformers.__version__}"
    implementation = getattr(lens.decoder.config, "_attn_implementation", "none")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = f"{fingerprint(lens.model)}-{lens.device.type}-{implementation}-{versions}.json"
    return home / "attnlens" / "self-check" / name


def _remembered(lens: SpeechLM) -> CheckTable | None:
    try:
        fields = json.loads(_place(lens).read_text(encoding="utf-8"))
        findings = tuple(Finding(**finding) for finding in fields.pop("findings"))
        del fields["passed"]
        return CheckTable(findings=findings, **fields | {"model": lens.name})
    except (OSError, ValueError, TypeError, KeyError):
        return None  # absent, or written by another version: measured again


def _remember(lens: SpeechLM, table: CheckTable) -> CheckTable:
    if table.passed:  # a failure is measured again, since what caused it may have been mended
        path = _place(lens)
        # A home that cannot be written costs a second measurement, nothing else.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(table.to_dict()), encoding="utf-8")
    return table
