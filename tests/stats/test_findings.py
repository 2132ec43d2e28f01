from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from attnlens.errors import BadInput
from attnlens.stats.findings import Against, Finding, Findings
from attnlens.stats.judge import Claim, judge, weighed

REPETITIONS = 500
TOLERANCE = 3 * math.sqrt(0.05 * 0.95 / REPETITIONS)
"""Three standard errors of a share of 5 % in so many repetitions: 2.9 points."""


def claim(values: object, **options: object) -> Claim:
    fields: dict[str, object] = {"name": "one", "claim": "It costs.", "statistic": "nats", "values": values}
    return Claim(**(fields | options))  # type: ignore[arg-type]


def test_supported_refuted_inconclusive() -> None:
    rng = np.random.default_rng(0)
    effect = rng.normal(1.0, 0.5, 30)
    (found,) = judge([claim(effect, controls={"random": rng.normal(0.0, 0.5, 30)})])
    assert found.verdict == "supported"
    assert found.controls[0].outcome == "withstood"
    (found,) = judge([claim(effect, controls={"random": effect + rng.normal(0.0, 0.3, 30)})])
    assert found.verdict == "refuted by control random"
    (found,) = judge([claim(rng.normal(0.0, 1.0, 30))])
    assert found.verdict == "inconclusive"
    (found,) = judge([claim(-effect)])
    assert found.verdict == "inconclusive"
    (found,) = judge([claim(-effect, direction="either")])
    assert found.verdict == "supported"


def test_a_control_that_shows_nothing_but_is_not_beaten_leaves_it_open() -> None:
    rng = np.random.default_rng(1)
    effect = rng.normal(0.5, 0.5, 30)
    (found,) = judge([claim(effect, controls={"wild": rng.normal(0.0, 30.0, 30)})])
    assert found.verdict == "inconclusive"
    assert found.controls[0].outcome == "undecided"


def test_claims_are_corrected_together_and_controls_may_be_undefined() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(0.5, 0.5, 30)
    alone = judge([claim(values)])[0]
    many = judge([claim(values, name=f"c{place}", controls={"random": "no other keys"}) for place in range(4)])
    assert many[0].p == pytest.approx(min(4 * alone.p, 1.0))
    assert many[0].verdict == "supported"
    assert "not defined (no other keys)" in many[0].evidence


def test_differences_to_a_control_are_corrected_over_the_claims() -> None:
    rng = np.random.default_rng(8)
    effect, control = rng.normal(1.0, 0.5, 30), rng.normal(0.72, 0.5, 30)
    one = claim(effect, controls={"random": control})
    (alone,) = judge([one])
    many = judge([claim(effect, name=f"c{place}", controls={"random": control}) for place in range(6)])
    assert alone.controls[0].p_difference is not None
    assert many[0].controls[0].p_difference == pytest.approx(min(6 * alone.controls[0].p_difference, 1.0))


def test_too_few_utterances_say_how_many_are_due() -> None:
    (found,) = judge([claim([0.4, 0.5, 0.3, 0.6])])
    assert found.verdict == "inconclusive"
    assert "6" in found.why
    (found,) = judge([claim([])])
    assert found.verdict == "inconclusive"
    assert found.estimate is None


def test_constant_data_support_nothing() -> None:
    (found,) = judge([claim(np.zeros(12))])
    assert found.verdict == "inconclusive"
    assert found.p == 1.0


def test_empty_spans_are_counted_and_unpaired_controls_refused() -> None:
    values = np.r_[np.full(12, 0.4) + np.arange(12) / 100, np.nan, np.nan]
    (found,) = judge([claim(values, per=np.full(14, 2.0))])
    assert found.n == 12
    assert "2 of 14 items" in found.why
    assert found.estimate == pytest.approx(np.nanmean(values) / 2)
    with pytest.raises(BadInput, match="not paired"):
        judge([claim(values, controls={"random": np.zeros(3)})])


def test_no_effect_is_claimed_within_a_margin() -> None:
    rng = np.random.default_rng(3)
    small = rng.normal(0.0, 0.02, 30)
    assert judge([claim(small, margin=0.05)])[0].verdict == "supported"
    assert judge([claim(small + 0.2, margin=0.05)])[0].verdict == "inconclusive"
    assert judge([claim(rng.normal(0.0, 2.0, 30), margin=0.05)])[0].verdict == "inconclusive"


@pytest.mark.parametrize("spread", ["normal", "skewed"])
def test_null_claims_are_supported_at_the_nominal_level(spread: str) -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(size=(40, REPETITIONS))
    if spread == "skewed":
        # Symmetric about zero as the null says, with heavy tails.
        values = values**3
    found = weighed(values, direction="either", resamples=999, draws=999)
    assert np.mean(found.verdict == 1) <= 0.05 + TOLERANCE
    if spread == "normal":
        assert np.mean(found.verdict == 1) >= 0.05 - TOLERANCE
    directed = weighed(values, resamples=999, draws=999)
    assert np.mean(directed.verdict == 1) <= 0.025 + TOLERANCE


def test_an_effect_that_any_control_has_is_supported_at_most_at_the_nominal_level() -> None:
    rng = np.random.default_rng(5)
    shared = rng.normal(1.0, 0.5, size=(40, REPETITIONS))
    values, control = shared + rng.normal(0, 0.3, shared.shape), shared + rng.normal(0, 0.3, shared.shape)
    found = weighed(values, controls={"random": control}, resamples=999, draws=999)
    assert np.mean(found.verdict == 1) <= 0.05 + TOLERANCE
    assert np.mean(found.verdict == -1) >= 0.9


def test_no_effect_is_not_claimed_where_it_is_at_the_margin() -> None:
    rng = np.random.default_rng(6)
    values = 0.1 + rng.normal(0.0, 0.1, size=(200, 40))
    verdicts = [judge([claim(one, margin=0.1)], resamples=999)[0].verdict for one in values]
    assert np.mean(np.asarray(verdicts) == "supported") <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


def test_the_vectorised_rule_is_the_one_for_single_claims() -> None:
    rng = np.random.default_rng(7)
    values, control = rng.normal(0.3, 1.0, (20, 12)), rng.normal(0.2, 1.0, (20, 12))
    found = weighed(values, controls={"random": control})
    for cell in range(12):
        alone = judge([claim(values[:, cell], controls={"random": control[:, cell]})])[0]
        code = {"supported": 1, "inconclusive": 0}.get(alone.verdict, -1)
        assert code == found.verdict[cell]


def test_findings_are_kept_and_read(tmp_path: Path) -> None:
    one = Finding(
        name="cut",
        claim="It <costs>.",
        statistic="nats",
        verdict="supported",
        estimate=0.1,
        low=0.05,
        high=0.2,
        p=0.01,
        n=9,
        controls=(Against(name="random", outcome="withstood", estimate=0.01, p=0.4, p_difference=0.01),),
    )
    findings = Findings((one,))
    findings.write(tmp_path)
    assert Findings.read(tmp_path) == findings
    assert Findings.read(tmp_path / "nowhere") is None
    assert findings["cut"] is one
    assert findings[:1] + Findings() == findings
    assert "&lt;costs&gt;" in findings._repr_html_()
    assert len(findings.supported) == 1
    with pytest.raises(KeyError):
        findings["other"]
    by_hand = Findings.from_json('[{"claim": "So it is.", "evidence": "seen", "verdict": "supported"}]')
    assert by_hand[0].why == "seen"
    for text in ("{", '{"findings": [1]}', '[{"evidence": "no claim"}]'):
        with pytest.raises(BadInput, match="no list of findings"):
            Findings.from_json(text)
