"""What one does with a lens: trace, score, cut, ablate, patch. Each verb is one call of the module that holds it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, cast

from attnlens.context.prompt import Prompt
from attnlens.models import interventions
from attnlens.models.scoring import Score, lengths, score
from attnlens.models.trace import trace

if TYPE_CHECKING:
    import xarray as xr
    from torch import Tensor

    from attnlens.context.encode import Encoded
    from attnlens.context.spans import Source
    from attnlens.models.interventions import Sources
    from attnlens.models.scoring import End, Method
    from attnlens.models.self_check import CheckTable
    from attnlens.models.speechlm import SpeechLM

__all__ = ["Verbs"]


class Verbs:
    """The verbs of :class:`attnlens.models.speechlm.SpeechLM`.

    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> lens, prompt = load("tiny:qwen2-audio"), probe()
    >>> with lens.knockout(queries="output", keys="demo_audio"):
    ...     cut = lens.trace(prompt)
    >>> float(cut.mass.sel(source="demo_audio").max())
    0.0
    """

    @property
    def _lens(self) -> SpeechLM:
        return cast("SpeechLM", self)

    def trace(self, prompts: Prompt | Sequence[Prompt], **options: Any) -> xr.Dataset:
        """Measure what each head draws from each span; options as in :func:`attnlens.models.trace.trace`."""
        return trace(self._lens, prompts, **options)

    def score(
        self,
        prompt: Prompt | Encoded,
        hypotheses: Sequence[str | Sequence[int]],
        *,
        end: End = "none",
        method: Method = "auto",
        pack: int = 512,
    ) -> list[Score]:
        """Return the log-probability of every token of every hypothesis after a prompt.

        Options as in :func:`attnlens.models.scoring.score`. Under an intervention hypotheses are read one after
        another, in their true positions, since what is cut is given by position.
        """
        lens = self._lens
        encoded = lens.encode(prompt) if isinstance(prompt, Prompt) else prompt
        around: AbstractContextManager[Any] = nullcontext()
        edits = interventions.edits_for(lens, encoded, new=max(lengths(lens, hypotheses), default=0))
        if edits:
            from attnlens.capture.attention import capture

            around = capture(lens.sites, None, edits)
            method = "sequential" if method in ("auto", "packed") else method
        with around:
            return score(lens, encoded, hypotheses, end=end, method=method, pack=pack)

    def knockout(
        self,
        *,
        queries: Sources,
        keys: Sources,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        how: Literal["mask", "zero"] = "mask",
        site: Literal["self", "cross"] = "self",
    ) -> AbstractContextManager[None]:
        """Forbid rows of some spans to look at keys of others; see :func:`attnlens.models.interventions.knockout`."""
        return interventions.knockout(
            self._lens, queries=queries, keys=keys, layers=layers, heads=heads, how=how, site=site
        )

    def ablate_heads(
        self,
        *,
        layers: Sequence[int],
        heads: Sequence[int],
        value: Literal["zero", "mean", "resample"] = "zero",
        queries: Sources = "output",
        reference: Sequence[Prompt] = (),
        seed: int = 0,
    ) -> AbstractContextManager[None]:
        """Replace what heads put out; see :func:`attnlens.models.interventions.ablate_heads`."""
        return interventions.ablate_heads(
            self._lens, layers=layers, heads=heads, value=value, queries=queries, reference=reference, seed=seed
        )

    def shuffle_values(
        self,
        *,
        span: Source,
        layers: Sequence[int] | None = None,
        what: Literal["v", "k", "kv"] = "v",
        seed: int = 0,
    ) -> AbstractContextManager[None]:
        """Permute values within a span; see :func:`attnlens.models.interventions.shuffle_values`."""
        return interventions.shuffle_values(self._lens, span=span, layers=layers, what=what, seed=seed)

    def patch(self, prompt: Prompt, source: Prompt, *, span: Source, layer: int, output: str | None = None) -> Tensor:
        """Return logits with the stream at a span taken from another prompt.

        See :func:`attnlens.models.residual.patched_logits`; through nnsight, imported here.
        """
        from attnlens.models.residual import patched_logits

        return patched_logits(self._lens, prompt, source, span=span, layer=layer, output=output)

    def logit_lens(
        self, prompt: Prompt, *, output: str | None = None, layers: Sequence[int] | None = None
    ) -> xr.Dataset:
        """Read each layer's stream as if it were the last; see :func:`attnlens.models.residual.logit_lens`."""
        from attnlens.models.residual import logit_lens

        return logit_lens(self._lens, prompt, output=output, layers=layers)

    @property
    def nnsight(self) -> Any:
        """The model as nnsight wraps it, for experiments of your own."""
        from attnlens.models.residual import wrapped

        return wrapped(self._lens)

    def self_check(self) -> CheckTable:
        """Measure every claim attnlens makes about this model, as ``attnlens doctor`` does."""
        from attnlens.models.self_check import check_model

        return check_model(self._lens)
