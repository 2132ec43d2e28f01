"""Token-level detail of a few items of a finished run, measured after it and kept beside it for the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from attnlens.errors import BadInput
from attnlens.run.bench import Bench
from attnlens.run.folder import RunFolder
from attnlens.run.item import Item
from attnlens.run.load import load_spec
from attnlens.run.plan import make_plan

__all__ = ["chosen_items", "keep_details"]

PREFERRED = ("micl", "a-icl", "icl", "t-icl", "asr")
"""Which condition an utterance is shown in: the one that shows most."""


def keep_details(folder: str | Path, *, utterances: int = 3, tick: Callable[[str], None] | None = None) -> list[str]:
    """Measure a few utterances of a run down to single tokens, as they are and with each control; return their ids.

    The prompts are planned again from the run's spec, and the model is loaded again. What was kept before stays.

    Parameters
    ----------
    utterances
        How many, taken in turn from the corpora.
    tick
        Called with the name of each item before it is measured.
    """
    from attnlens.models.detail import token_detail
    from attnlens.plots.tokens import keep_tokens, read_tokens

    path = RunFolder(Path(folder)).path
    if not (path / "spec.yaml").exists():
        raise BadInput(
            f"{path} has no spec, so its prompts cannot be made again", fix="pass a directory that `attnlens run` wrote"
        )
    if utterances < 1:
        raise BadInput("at least one utterance is due", given=utterances, fix="pass 1 or more")
    spec = load_spec(path / "spec.yaml")
    items = chosen_items(make_plan(spec).items, utterances)
    due = [item for item in items if item.id not in read_tokens(path)]
    if due:
        lens = Bench(spec).lens
        to_logits = lens.sites.final_norm is not None and lens.sites.unembedding is not None
        for item in due:
            if tick is not None:
                tick(item.describe())
            measures = ("weights", "effects") if to_logits else ("weights",)
            detail = token_detail(lens, item.prompt, measures=measures)  # type: ignore[arg-type]
            about = {**item.coordinates(), "control": item.control, "language": item.prompt.target.language}
            keep_tokens(path, item.id, detail, item.prompt, about=about)
    return [item.id for item in items]


def chosen_items(items: Sequence[Item], utterances: int) -> list[Item]:
    """Return the items that show a few utterances best: the most demonstrations, clean and under each control.

    >>> from attnlens.run.spec import RunSpec
    >>> spec = RunSpec(
    ...     data={"corpora": "synthetic", "limit": 2}, context={"shots": "0,2", "conditions": "asr,micl"}
    ... )
    >>> [(item.prompt.shots, item.control) for item in chosen_items(make_plan(spec).items, 1)]
    [(2, 'none'), (2, 'mismatched-pairs')]
    """
    first = min(item.seed for item in items)
    by_target: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        if item.seed == first and item.intervention == "none":
            by_target.setdefault((item.corpus, item.prompt.target.id), []).append(item)
    corpora = list(dict.fromkeys(corpus for corpus, _ in by_target))
    rows = [[target for target in by_target if target[0] == corpus] for corpus in corpora]
    turns = [row[turn] for turn in range(max(map(len, rows))) for row in rows if turn < len(row)]
    found: list[Item] = []
    for target in turns[:utterances]:
        candidates = by_target[target]
        clean = [item for item in candidates if item.control == "none"]
        best = min(clean, key=lambda item: (PREFERRED.index(item.prompt.condition), -item.prompt.shots))
        like = [
            item
            for item in candidates
            if item.prompt.condition == best.prompt.condition and item.asked == best.asked and item.control != "none"
        ]
        found += [best, *like]
    return found
