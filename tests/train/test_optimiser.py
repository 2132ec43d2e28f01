from __future__ import annotations

import pytest
import torch

from attnlens.errors import BadInput
from attnlens.train.optimiser import make_optimiser, set_rates
from attnlens.train.spec import OptimiserSpec, TrainSpec


def module() -> torch.nn.Module:
    torch.manual_seed(0)
    made = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Linear(16, 8))
    made(torch.randn(32, 8)).pow(2).sum().backward()
    return made


def test_a_step_of_muon_is_the_gradient_made_orthogonal() -> None:
    made = module()
    layer: torch.nn.Linear = made[0]  # type: ignore[index]
    before, gradient = layer.weight.detach().clone(), layer.weight.grad
    assert gradient is not None
    optimiser = make_optimiser(made, OptimiserSpec(rate=0.01, decay=0.0, muon=("0.",)))
    optimiser.step()
    step = (before - layer.weight.detach()) / (0.01 * 0.2 * 16**0.5)
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    # Five rounds in half precision leave singular values between 0.6 and 1.3, where the exact ones are 1.
    found = left.T @ step @ right.T
    assert 0.6 < float(found.diagonal().min()) < float(found.diagonal().max()) < 1.3
    assert float((found - torch.diag(found.diagonal())).abs().max()) < 0.05


def test_what_muon_does_not_take_adamw_does_as_before() -> None:
    alone, beside = module(), module()
    for made, muon in ((alone, ()), (beside, ("0.",))):
        optimiser = make_optimiser(made, OptimiserSpec(rate=0.01, muon=muon))
        set_rates(optimiser, 0.005)
        optimiser.step()
    ours, theirs = alone.state_dict(), beside.state_dict()
    assert not torch.equal(ours["0.weight"], theirs["0.weight"])
    # A bias is no matrix: it stays with AdamW, whatever its name begins with.
    assert all(torch.equal(ours[name], theirs[name]) for name in ("0.bias", "1.weight", "1.bias"))


def test_factors_of_the_rate_hold_for_muon() -> None:
    optimiser = make_optimiser(module(), OptimiserSpec(muon=("0.", "1."), rates={"1.": 0.5}))
    set_rates(optimiser, 0.1)
    rates = {group["lr"] for group in optimiser.param_groups}
    assert rates == {0.1, 0.05}


@pytest.mark.parametrize("prefix", ["2.", "0.bias"])
def test_prefixes_without_a_matrix_are_refused(prefix: str) -> None:
    with pytest.raises(BadInput, match=f"not there(.|\n)*muon: {prefix}"):
        make_optimiser(module(), OptimiserSpec(muon=(prefix,), rates={"0.bias": 0.5}))


def test_specs_without_muon_keep_their_hash() -> None:
    assert TrainSpec(recipe="episodes").hash == TrainSpec(recipe="episodes", optimiser={"muon": []}).hash
    assert TrainSpec(recipe="episodes").hash != TrainSpec(recipe="episodes", optimiser={"muon": ["0."]}).hash
