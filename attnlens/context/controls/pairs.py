"""Controls of the pair itself: does it matter that this text belongs to this audio, and which of them comes first?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from attnlens.context.controls.base import WITH_PAIRS, Control, Draw
from attnlens.context.prompt import Prompt
from attnlens.errors import BadInput

__all__ = ["MISMATCHED_PAIRS", "PAIR_ORDER_SWAPPED", "derangement", "mismatched_pairs", "pair_order_swapped"]

_TRIES = 1000


def mismatched_pairs(prompt: Prompt, draw: Draw) -> Prompt:
    """Give every audio the text of another demonstration, to ask whether correspondence matters.

    Keeps: the audios and their places, and exactly the same texts taken together (hence all lengths).
    Destroys: which text belongs to which audio. No demonstration keeps its own text, neither by index nor in wording:
    where two demonstrations say the same, they do not exchange texts. The assignment is uniformly random among those
    possible. Refused when more than half of the demonstrations share one text: one of them would have to keep it.
    """
    texts = [demonstration.text or "" for demonstration in prompt.demonstrations]
    most, times = Counter(texts).most_common(1)[0]
    if 2 * times > len(texts):
        raise BadInput(
            f"the pairs of target {prompt.target.id!r} cannot be mismatched: too many demonstrations share one text",
            given=f"{times} of {len(texts)} demonstrations say {most!r}",
            fix="use demonstrations with distinct texts",
        )
    sources = [prompt.demonstrations[source] for source in derangement(texts, draw.rng())]
    return replace(
        prompt,
        demonstrations=tuple(
            replace(demonstration, text=source.text, text_id=source.text_id)
            for demonstration, source in zip(prompt.demonstrations, sources, strict=True)
        ),
    )


def derangement(labels: Sequence[str], rng: np.random.Generator) -> list[int]:
    """Return a random order of indices in which no place gets an index of its own label.

    With distinct labels that is a derangement. No label may fill more than half of the places. Uniform over all such
    orders, except where labels repeat so much that a thousand shuffles do not find one; then the groups of equal labels
    are rotated past each other, in random order.

    >>> order = derangement(["a", "b", "c"], np.random.default_rng(0))
    >>> order in ([1, 2, 0], [2, 0, 1])
    True
    """
    for _ in range(_TRIES):
        order = [int(source) for source in rng.permutation(len(labels))]
        if all(labels[place] != labels[source] for place, source in enumerate(order)):
            return order
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for place in rng.permutation(len(labels)):
        groups[labels[place]].append(int(place))
    # The largest group in front: a rotation by its size then carries every group past itself, wrap-around included.
    largest_first = sorted(groups.values(), key=len, reverse=True)
    row = [place for group in largest_first for place in group]
    order = [0] * len(row)
    for index, place in enumerate(row):
        order[place] = row[(index + len(largest_first[0])) % len(row)]
    return order


def pair_order_swapped(prompt: Prompt, draw: Draw) -> Prompt:
    """Show the text before its audio (or the audio first, where text came first), to ask what position alone explains.

    Keeps: every audio, every text, which belongs to which, and the order of demonstrations.
    Destroys: which half of a pair can attend to the other half; later positions see earlier ones, not the reverse.
    """
    return replace(prompt, pair_order="audio-first" if prompt.pair_order == "text-first" else "text-first")


MISMATCHED_PAIRS = Control(mismatched_pairs, conditions=WITH_PAIRS, at_least=2)
PAIR_ORDER_SWAPPED = Control(pair_order_swapped, conditions=WITH_PAIRS)
