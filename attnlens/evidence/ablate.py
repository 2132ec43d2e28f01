"""Take things from a model and see what the answer then costs: prompts, edges of attention, representations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from attnlens.context.prompt import Prompt
from attnlens.context.spans import Source
from attnlens.errors import BadInput, UnknownName
from attnlens.evidence.asked import Asked, Cut, Patched, Replaced, asked
from attnlens.evidence.edges import ENDS, Edge, Window, edge, every_edge, window_name
from attnlens.evidence.edges import windows as made_windows
from attnlens.evidence.effects import Ablations, Effect, RandomCut
from attnlens.evidence.measure import Bench, Measured
from attnlens.evidence.notes import Notes, asked_of, noted
from attnlens.evidence.progress import shown
from attnlens.evidence.random_keys import BESIDE, KEY_CONTROLS, OTHER, Beside
from attnlens.models.replay import INPUT

if TYPE_CHECKING:
    from attnlens.data.corpus import Corpus
    from attnlens.models.speechlm import SpeechLM

__all__ = ["Windows", "ablate", "knockout_grid"]

Windows = Sequence[Window] | Literal["all", "each"]


def ablate(
    lens: SpeechLM,
    prompts: Sequence[Prompt],
    what: Sequence[str | Asked],
    *,
    windows: Windows = "all",
    how: Literal["mask", "zero"] = "mask",
    controls: Sequence[Beside] = BESIDE,
    corpora: Sequence[Corpus] = (),
    seed: int = 0,
    notes: Notes | None = None,
    tick: Callable[[], None] | None = None,
) -> Ablations:
    """Compare ablations at all depths on the same prompts, each with its references as answers, in one table.

    Parameters
    ----------
    prompts
        The clean prompts. The utterance of the target is the unit of every test.
    what
        Names: a condition or control (``icl``, ``audio-silenced``), an edge (``output -> demo_audio``), a span whose
        states are replaced (``mean:demo_audio``, ``resample:``, ``zero:``) or restored (``patch:demo_text``).
    windows
        Layers that are changed together; ``all`` at once, or ``each`` by itself. Prompts have no layers.
    how
        How edges are cut; see :func:`attnlens.models.interventions.knockout`.
    controls
        What stands beside: for cuts other keys at random, ``equal-count`` and ``equal-mass``; for all ``other-answer``,
        the same ablation with another utterance's reference, which should not cost as much.
    corpora
        Where controls of the prompt find other utterances of a target's language.
    notes
        Where each prompt is kept as soon as it is measured; with the same notes, stopped work goes on where it was.
    tick
        Told after each prompt; without it a bar is shown.

    >>> from attnlens.models.load import load
    >>> from attnlens.testing import corpus
    >>> from attnlens.context.build import build_prompt
    >>> speech = corpus(test=6, pool=2)
    >>> prompts = [build_prompt(one, speech.pool, condition="micl") for one in speech.test]
    >>> table = ablate(load("tiny:qwen3-asr"), prompts, ["icl", "output -> demo_audio", "mean:demo_audio"])
    >>> [row["depth"] for row in table.to_frame().to_dict("records")]
    ['prompt', 'attention', 'representation']
    """
    listed = list(prompts)
    wanted = [asked(one) for one in what]
    _refuse(listed, wanted, controls)
    if how not in ("mask", "zero"):
        raise UnknownName.among("way to cut", how, ["mask", "zero"])
    chosen = _windows(windows, lens.n_layers)
    plan = [(one, layers) for one in wanted for layers in _layers_of(one, chosen, windows, lens.n_layers)]
    bench = Bench(lens, listed, plan, how=how, controls=tuple(controls), corpora=corpora, seed=seed)
    speech = sorted([one.language, *([said.id, said.text] for said in one.pool)] for one in corpora)
    steps = [[str(one), list(layers)] for one, layers in plan]
    name = asked_of(notes, lens, listed, "ablate", steps, how, list(controls), seed, speech)
    measured = [
        Measured.read(noted(notes, f"{name}/{place}", lambda place=place: bench.measure(place).written()))  # type: ignore[misc]
        for place in shown(range(len(listed)), "ablating", tick)
    ]
    return _table(bench, measured)


def knockout_grid(
    lens: SpeechLM,
    prompts: Sequence[Prompt],
    *,
    edges: Sequence[str | Edge] | None = None,
    windows: Windows = "each",
    ends: Sequence[Source] = ENDS,
    how: Literal["mask", "zero"] = "mask",
    controls: Sequence[Beside] = BESIDE,
    seed: int = 0,
    notes: Notes | None = None,
    tick: Callable[[], None] | None = None,
) -> Ablations:
    """Cut every edge among the spans in every window of layers, and at all layers; random keys stand beside each.

    Parameters
    ----------
    edges
        Some edges by name; None is every one among ``ends`` that any prompt has.
    windows, how, controls, seed, notes, tick
        As in :func:`ablate`; ``each`` cuts windows of one layer, or up to eight wider ones.

    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> grid = knockout_grid(load("tiny:qwen3-asr"), [probe()], edges=["output -> demo_text"], controls=[])
    >>> [row["layers"] for row in grid.to_frame().to_dict("records")]
    ['0', '1', '2', 'all']
    """
    listed = list(prompts)
    if edges is None:
        cut = every_edge([lens.encode(one, one.target.text) for one in listed], ends=ends)
    else:
        cut = [edge(one) for one in edges]
    chosen = list(made_windows(lens.n_layers)) if windows == "each" else _windows(windows, lens.n_layers)
    everywhere = tuple(range(lens.n_layers))
    chosen += [] if everywhere in chosen else [everywhere]
    cuts: list[str | Asked] = [Cut(one) for one in cut]
    return ablate(lens, listed, cuts, windows=chosen, how=how, controls=controls, seed=seed, notes=notes, tick=tick)


def _windows(windows: Windows, n_layers: int) -> list[Window]:
    if windows == "all":
        return [tuple(range(n_layers))]
    if windows == "each":
        return [(layer,) for layer in range(n_layers)]
    if not all(isinstance(one, Sequence) and not isinstance(one, str) for one in windows):
        raise UnknownName.among("choice of windows", str(windows), ["all", "each"])
    made = [tuple(int(layer) for layer in one) for one in windows]
    for one in made:
        window_name(one, n_layers)
    if not made:
        raise BadInput("no window is named", fix="pass 'all', 'each', or windows such as [(0, 1), (2, 3)]")
    return made


def _layers_of(one: Asked, chosen: list[Window], windows: Windows, n_layers: int) -> list[Window]:
    if one.depth == "prompt":
        return [()]
    if one.depth == "attention":
        return [tuple(layer for layer in window if layer != INPUT) for window in chosen if window != (INPUT,)]
    # Where all of a span's states go, what the first layer reads goes too.
    whole = tuple(range(n_layers))
    inner = [(INPUT, *window) if window == whole else window for window in chosen]
    return [(INPUT,), *inner] if windows == "each" else inner


def _refuse(prompts: Sequence[Prompt], wanted: Sequence[Asked], controls: Sequence[str]) -> None:
    if not prompts:
        raise BadInput("there is nothing to read", given="no prompts", fix="pass at least one")
    if not wanted:
        raise BadInput("nothing is to be ablated", fix="name conditions, controls, edges or spans")
    twice = {str(one) for one in wanted if wanted.count(one) > 1}
    if twice:
        raise BadInput("an ablation is named twice", given=", ".join(sorted(twice)), fix="name each once")
    for name in controls:
        if name not in BESIDE:
            raise UnknownName.among("control of an ablation", name, BESIDE)
    silent = [one.target.id for one in prompts if not one.target.text.strip()]
    if silent:
        raise BadInput(f"the target {silent[0]!r} has no reference to read along", fix="leave it out")
    if any(isinstance(one, Replaced) and one.value != "zero" for one in wanted) and len(prompts) < 2:  # noqa: PLR2004
        raise BadInput(
            "a mean or resample ablation takes its values from other prompts",
            given="1 prompt",
            fix="pass at least 2, or zero: instead",
        )


def _table(bench: Bench, measured: Sequence[Measured]) -> Ablations:
    lens, prompts = bench.lens, bench.prompts
    effects = []
    for place, (one, layers) in enumerate(bench.plan):
        cells = [found.cells[place] for found in measured]
        whys: dict[str, int] = {}
        for cell in cells:
            if cell.why:
                whys[cell.why] = whys.get(cell.why, 0) + 1
        random = {
            str(name): RandomCut(*(np.array([cell.random[name][part] for cell in cells]) for part in (0, 1)))
            for name in KEY_CONTROLS
            if isinstance(one, Cut) and name in bench.controls
        }
        effects.append(
            Effect(
                asked=one,
                layers=window_name(layers, lens.n_layers) if layers else "",
                change=np.array([cell.change for cell in cells]),
                mass=np.array([cell.mass for cell in cells]) if isinstance(one, Cut) else None,
                random=random,
                other=np.array([cell.other for cell in cells]) if OTHER in bench.controls else None,
                damage=np.array([cell.damage for cell in cells]) if isinstance(one, Patched) else None,
                whys=whys,
            )
        )
    return Ablations(
        effects=tuple(effects),
        clean=np.array([found.clean for found in measured]),
        tokens=np.array([found.tokens for found in measured], dtype=np.float64),
        characters=np.array([len(one.target.text) for one in prompts], dtype=np.float64),
        utterances=tuple(f"{one.target.language}/{one.target.id}" for one in prompts),
        model=lens.name,
        seed=bench.seed,
    )
