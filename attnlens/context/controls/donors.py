"""Finding other utterances to stand in: by id, outside the prompt, one different one for each demonstration."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attnlens.context.prompt import Prompt
from attnlens.data.corpus import SPLITS, Corpus, Split
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput, UnknownName, listing

__all__ = ["assign", "ids_in", "split_of", "strangers"]


def ids_in(prompt: Prompt) -> frozenset[str]:
    """Return every id whose audio or text the prompt holds, the target's included."""
    target = prompt.target
    used = {target.id, target.audio_id or target.id}
    for demonstration in prompt.demonstrations:
        used |= {demonstration.id, demonstration.audio_id, demonstration.text_id}
    return frozenset(used)


def split_of(prompt: Prompt, corpus: Corpus, split: Split | None) -> Split:
    """Return the split to draw from: the one named, else the target's own, so that work on dev never meets test."""
    if split is not None:
        if split not in SPLITS:
            raise UnknownName.among("split", split, SPLITS)
        return split
    for name, utterances in corpus.splits.items():
        if any(utterance.id == prompt.target.id for utterance in utterances):
            return name
    raise BadInput(
        f"the target {prompt.target.id!r} is in no split of corpus {corpus.name!r}",
        present=listing(f"{name}: {len(utterances)} utterances" for name, utterances in corpus.splits.items()),
        fix="pass the target's own corpus, or name the split to draw from (split='test')",
    )


def strangers(prompt: Prompt, corpus: Corpus, split: Split) -> list[Utterance]:
    """Return the utterances of a split that share neither id nor wording with the prompt; refuse when there is none."""
    used = ids_in(prompt)
    said = {prompt.target.text, *(demonstration.text for demonstration in prompt.demonstrations)}
    found = [other for other in corpus.splits.get(split, ()) if other.id not in used and other.text not in said]
    if not found:
        raise BadInput(
            f"the split {split!r} of corpus {corpus.name!r} has no utterance to put in for target {prompt.target.id!r}",
            given=f"{len(corpus.splits.get(split, ()))} utterances, all in the prompt or with a text that is",
            fix="add utterances to this split, or name another one (split=...)",
        )
    return found


def assign(places: int, donors: Sequence[Utterance], fits: Callable[[int, Utterance], bool]) -> list[Utterance] | None:
    """Give each place a different fitting donor, earlier donors preferred; None when that cannot be done.

    A place that finds all its donors taken makes an earlier one move (Kuhn's bipartite matching), so that a small pool
    is refused only when it really is too small.
    """
    taken: dict[int, int] = {}

    def settle(place: int, tried: set[int]) -> bool:
        for index, donor in enumerate(donors):
            if index not in taken and fits(place, donor):
                taken[index] = place
                return True
        for index, donor in enumerate(donors):
            if index not in tried and index in taken and fits(place, donor):
                tried.add(index)
                if settle(taken[index], tried):
                    taken[index] = place
                    return True
        return False

    if not all(settle(place, set()) for place in range(places)):
        return None
    by_place = {place: donors[index] for index, place in taken.items()}
    return [by_place[place] for place in range(places)]
