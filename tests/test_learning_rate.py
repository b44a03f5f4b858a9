"""Learning rates: how they rise and fall, and the test that finds one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from geoseg.errors import InputError
from geoseg.recipes._schedule import make_schedule, rate_share
from geoseg.recipes.learning_rate import RateTest, try_rates


def rates(kind: Any, steps: int = 100, warm_up: float = 0.2) -> list[float]:
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=0.5)
    schedule, found = make_schedule(optimizer, kind, rate=0.5, steps=steps, warm_up=warm_up), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("kind", ["one_cycle", "cosine", "poly"])
def test_rates_rise_to_the_one_that_was_asked_for_and_fall_to_almost_nothing(kind: str) -> None:
    found = rates(kind)
    top = int(np.argmax(found))
    assert 17 <= top <= 21
    assert found[top] == pytest.approx(0.5, rel=0.03)
    assert (np.diff(found[: top + 1]) > 0).all()
    assert (np.diff(found[top:]) < 0).all()
    assert 0 <= found[-1] < 0.02
    assert found[0] > 0


def test_cosine_and_polynomial_are_those_of_their_definition() -> None:
    assert rate_share(0.6, "cosine", 0.2) == pytest.approx(0.5)
    assert rate_share(0.6, "poly", 0.2) == pytest.approx(0.5**0.9)
    assert rate_share(0.05, "poly", 0.2) == rate_share(0.05, "cosine", 0.2) == pytest.approx(0.25)


def test_the_rate_of_a_test_is_where_the_loss_falls_fastest() -> None:
    exponents = np.linspace(-5, 0, 60)
    fall = 1 / (1 + np.exp(6 * (exponents + 2)))  # steepest at a hundredth
    assert RateTest(tuple(10.0**exponents), tuple(fall)).best == pytest.approx(0.01, rel=0.25)
    with pytest.raises(InputError, match="found no rate at which the loss falls"):
        _ = RateTest(tuple(10.0**exponents), tuple(-fall)).best


def test_a_test_of_rates_leaves_the_network_as_it_was_and_ends_where_it_breaks() -> None:
    torch.manual_seed(0)
    network, image = torch.nn.Linear(4, 1), torch.randn(64, 4)
    before, batches = network.weight.clone(), [{"image": image, "truth": image.sum(dim=1, keepdim=True)}] * 3

    def loss(network: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        wrong = ((network(batch["image"]) - batch["truth"]) ** 2).mean()
        return wrong * torch.where(wrong > 20, torch.nan, 1.0)

    test = try_rates(network, loss, batches)
    assert torch.equal(network.weight, before)
    assert 1e-3 < test.best < 1
    assert len(test.rates) == len(test.losses) <= 100
