"""Four perplexities equal their definitions; what has none is told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from attnlens.asr.error_rate import count_errors
from attnlens.asr.language_model import TextScore
from attnlens.asr.perplexity import foretells, perplexity
from attnlens.errors import BadInput, UnknownName


def scores(seed: int = 0, texts: int = 30) -> tuple[list[TextScore], list[str]]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, texts)
    return [TextScore(-rng.gamma(2.0, 1.0, n), -0.3) for n in lengths], ["ab" * n for n in lengths]


def test_each_is_its_definition() -> None:
    made, texts = scores()
    found = perplexity(made, texts, resamples=199)
    nats = [-sum(one.logprobs) - one.end for one in made]
    tokens = [len(one.logprobs) + 1 for one in made]
    assert found.per_token == pytest.approx(math.exp(sum(nats) / sum(tokens)), rel=1e-12)
    assert found.bits_per_character == pytest.approx(sum(nats) / math.log(2) / sum(map(len, texts)), rel=1e-12)
    own = sorted(math.exp(n / t) for n, t in zip(nats, tokens, strict=True))
    assert found.median == pytest.approx((own[14] + own[15]) / 2, rel=1e-12)
    dropped = [math.exp(-np.mean(one.logprobs[1:])) for one in made if len(one.logprobs) > 1]
    assert found.paper == int(sum(dropped) / len(dropped))
    assert found.top_share == pytest.approx(max(nats) / sum(nats), rel=1e-12)
    assert found.interval is not None
    assert found.interval.low < found.per_token < found.interval.high
    left_out = perplexity(made, texts, end="left-out", resamples=199)
    assert left_out.per_token == pytest.approx(
        math.exp(-sum(one.text for one in made) / sum(one.tokens for one in made)), rel=1e-12
    )


def test_the_mean_of_the_paper_follows_one_outlier_and_the_others_do_not() -> None:
    made, texts = scores()
    calm = perplexity(made, texts, resamples=199)
    wild = perplexity([*made, TextScore(np.full(4, -15.0), -0.3)], [*texts, "abab"], resamples=199)
    assert calm.paper is not None
    assert wild.paper is not None
    assert wild.paper > 1000 * calm.paper
    assert wild.median < 1.2 * calm.median


def test_impossible_and_empty_texts() -> None:
    made, texts = scores()
    found = perplexity([*made, TextScore(np.array([-np.inf, -1.0]), -1.0)], [*texts, "ab"], resamples=199)
    assert (found.per_token, found.impossible, found.interval) == (math.inf, 1, None)
    assert math.isfinite(found.median)
    assert found.paper is not None
    assert "impossible" in str(found)
    empty = perplexity([*made, TextScore(np.array([]), -2.0)], [*texts, ""], end="left-out", resamples=199)
    assert any("without tokens" in note for note in empty.notes)
    single = perplexity([TextScore(np.array([-1.0]), -1.0)] * 2, ["a", "b"])
    assert (single.paper, single.interval) == (None, None)
    assert "no interval" in str(single)


def test_refusals() -> None:
    with pytest.raises(BadInput, match="not the same"):
        perplexity([], ["a"])
    with pytest.raises(BadInput, match="needs text"):
        perplexity([TextScore(np.array([]), -1.0)], [""])
    with pytest.raises(UnknownName, match="end"):
        perplexity([], [], end="both")  # type: ignore[arg-type]


Numbers = dict[str, list[float]]


def configurations(sign: int) -> tuple[Numbers, Numbers, Numbers]:
    rng = np.random.default_rng(0)
    said = ["a b c d e f"] * 12
    nats, counted = {}, {}
    for level in range(6):
        wrong = rng.random((12, 6)) < 0.1 + 0.12 * (level if sign > 0 else 5 - level)
        heard = [" ".join("x" if bad else word for bad, word in zip(row, "abcdef", strict=True)) for row in wrong]
        counted[str(level)] = [float(one) for one in count_errors(said, heard).errors]
        nats[str(level)] = [float(-rng.normal(-2.0 - level, 0.2, 6).sum() + 1.0) for _ in said]
    return nats, counted, dict.fromkeys(nats, [6.0] * 12)


def test_perplexity_may_foretell_errors_or_their_opposite() -> None:
    for sign in (1, -1):
        nats, counted, tokens = configurations(sign)
        found = foretells(nats, counted, tokens=tokens, resamples=199, draws=999)
        sums = [[sum(one) for one in values.values()] for values in (nats, counted)]
        assert found.rho == pytest.approx(spearmanr(*sums).statistic, abs=1e-12)
        assert found.rho * sign > 0.9


def test_what_cannot_be_ranked() -> None:
    nats, counted, tokens = configurations(1)
    with pytest.raises(BadInput, match="other configurations"):
        foretells(nats, {"a": counted["0"]}, tokens=tokens)
    with pytest.raises(BadInput, match="other utterances"):
        foretells({**nats, "0": nats["0"][:3]}, counted, tokens=tokens)
    with pytest.raises(BadInput, match="several tokenizers"):
        foretells(nats, counted, tokens={**tokens, "0": [5.0] * 12})
    few = [{name: part[name] for name in ("0", "1")} for part in (nats, counted, tokens)]
    with pytest.raises(BadInput, match="too few"):
        foretells(few[0], few[1], tokens=few[2])
