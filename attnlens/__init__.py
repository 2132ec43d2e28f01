"""attnlens tells what speech language models use when they learn in context.

The names below are the public front door; each is imported when first used, so that ``import attnlens`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from attnlens.context.build import build_prompt as build_prompt
    from attnlens.context.controls import apply_control as apply_control
    from attnlens.context.encode import encode as encode
    from attnlens.context.prompt import Prompt as Prompt
    from attnlens.context.retrieval import retrieve as retrieve
    from attnlens.context.spans import SpanMap as SpanMap
    from attnlens.data.audio import Audio as Audio
    from attnlens.data.check import check as check
    from attnlens.data.corpus import Corpus as Corpus
    from attnlens.data.read import read_corpus as read_corpus
    from attnlens.data.utterance import Utterance as Utterance
    from attnlens.errors import AttnlensError as AttnlensError
    from attnlens.evidence.ablate import ablate as ablate
    from attnlens.evidence.ablate import knockout_grid as knockout_grid
    from attnlens.evidence.heads import search_heads as search_heads
    from attnlens.evidence.label_nulls import label_nulls as label_nulls
    from attnlens.models.front import load_front_end as load_front_end
    from attnlens.models.load import load as load
    from attnlens.models.speechlm import SpeechLM as SpeechLM
    from attnlens.plots import plot as plot
    from attnlens.run.carry_out import run_spec as run_spec
    from attnlens.run.corpora import find_corpus as find_corpus
    from attnlens.run.load import load_spec as load_spec
    from attnlens.run.plan import make_plan as make_plan
    from attnlens.run.spec import RunSpec as RunSpec
    from attnlens.traces.merge import merge as merge
    from attnlens.traces.reading import open_traces as open_traces

_WHERE = {
    # recordings and transcripts
    "Audio": "attnlens.data.audio",
    "Corpus": "attnlens.data.corpus",
    "Utterance": "attnlens.data.utterance",
    "check": "attnlens.data.check",
    "find_corpus": "attnlens.run.corpora",
    "read_corpus": "attnlens.data.read",
    # what the model is shown
    "Prompt": "attnlens.context.prompt",
    "SpanMap": "attnlens.context.spans",
    "apply_control": "attnlens.context.controls",
    "build_prompt": "attnlens.context.build",
    "encode": "attnlens.context.encode",
    "load_front_end": "attnlens.models.front",
    "retrieve": "attnlens.context.retrieval",
    # models
    "SpeechLM": "attnlens.models.speechlm",
    "load": "attnlens.models.load",
    # traces
    "merge": "attnlens.traces.merge",
    "open_traces": "attnlens.traces.reading",
    # evidence
    "ablate": "attnlens.evidence.ablate",
    "knockout_grid": "attnlens.evidence.ablate",
    "label_nulls": "attnlens.evidence.label_nulls",
    "search_heads": "attnlens.evidence.heads",
    # figures
    "plot": "attnlens.plots",
    # runs
    "RunSpec": "attnlens.run.spec",
    "load_spec": "attnlens.run.load",
    "make_plan": "attnlens.run.plan",
    "run_spec": "attnlens.run.carry_out",
    # everything that is refused on purpose
    "AttnlensError": "attnlens.errors",
}

__all__ = ["__version__", *_WHERE]  # noqa: PLE0604 - names, spelled once


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'attnlens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
