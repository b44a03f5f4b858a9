"""Losses against their definitions, worked out pixel by pixel."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from geoseg.data.windows import UNLABELLED
from geoseg.errors import InputError
from geoseg.models.losses import LOSSES, cross_entropy, dice, focal, get_loss
from geoseg.models.region_losses import boundary, lovasz, signed_distances, tversky

ALL = [*LOSSES, "cross_entropy_dice", "focal_lovasz_boundary"]
OF_REGIONS = ["dice", "tversky", "lovasz"]


def drawn(classes: int = 3, seed: int = 0, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, classes, (2, size, size), generator=generator)
    return torch.randn(2, classes, size, size, generator=generator), labels


@pytest.mark.parametrize("name", ALL)
def test_pixels_without_a_label_have_no_say(name: str) -> None:
    loss, (logits, labels) = get_loss(name), drawn()
    other = torch.where((labels == UNLABELLED).unsqueeze(1), torch.tensor(7.0), logits)
    other[:, 1] = torch.where(labels == UNLABELLED, torch.tensor(-50.0), other[:, 1])
    assert loss(logits, labels, None) == pytest.approx(loss(other, labels, None).item(), rel=1e-6)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0, 1.0])])
@pytest.mark.parametrize("name", ALL)
def test_only_labelled_pixels_get_a_gradient(name: str, weights: torch.Tensor | None) -> None:
    logits, labels = drawn()
    get_loss(name)(logits.requires_grad_(), labels, weights).backward()
    moved = logits.grad.abs().sum(dim=1)
    assert moved[labels == UNLABELLED].max() == 0
    assert (moved[labels != UNLABELLED] > 0).any()


@pytest.mark.parametrize("name", ALL)
def test_a_patch_without_labels_costs_nothing_and_moves_nothing(name: str) -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    value = get_loss(name)(logits, torch.full((1, 4, 4), UNLABELLED), None)
    value.backward()
    assert value.item() == 0
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("name", [name for name in ALL if "boundary" not in name])
def test_a_perfect_guess_costs_nothing(name: str) -> None:
    logits, labels = drawn()
    perfect = 30.0 * torch.nn.functional.one_hot(labels.clamp(min=0), 3).movedim(-1, 1)
    assert get_loss(name)(perfect, labels, None) == pytest.approx(0, abs=1e-4)
    assert get_loss(name)(logits, labels, None) > 0.1


@pytest.mark.parametrize("name", ALL)
def test_going_downhill_finds_the_truth(name: str) -> None:
    torch.manual_seed(0)
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[0, 2:6, 3:7] = 1
    logits = torch.randn(1, 2, 8, 8, requires_grad=True)
    descent = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        descent.zero_grad()
        get_loss(name)(logits, labels, None).backward()
        descent.step()
    assert (logits.argmax(dim=1) == labels).float().mean() > (0.75 if name == "boundary" else 0.99)


def test_cross_entropy_is_that_of_its_definition_also_smoothed() -> None:
    logits, labels = drawn(2)
    log_p, known = logits.log_softmax(dim=1).numpy(), labels.numpy() >= 0
    true = np.where(labels.numpy() == 1, log_p[:, 1], log_p[:, 0])[known]
    assert cross_entropy(logits, labels) == pytest.approx(-np.mean(true), rel=1e-5)
    spread = 0.9 * true + 0.1 * log_p.mean(axis=1)[known]
    assert get_loss("cross_entropy", label_smoothing=0.1)(logits, labels, None) == pytest.approx(-np.mean(spread), rel=1e-5)


@pytest.mark.parametrize(("loss", "false", "missed"), [(dice, 0.5, 0.5), (tversky, 0.3, 0.7)])
def test_overlap_is_that_of_its_definition(loss, false: float, missed: float) -> None:
    logits, labels = drawn(2)
    p, known, parts = logits.softmax(dim=1).numpy(), labels.numpy() >= 0, []
    for c in (0, 1):
        truth, guess = (labels.numpy() == c)[known], p[:, c][known]
        hits = (truth * guess).sum()
        parts.append(hits / (hits + false * (guess * ~truth).sum() + missed * ((1 - guess) * truth).sum()))
    assert loss(logits, labels) == pytest.approx(1 - np.mean(parts), rel=1e-5)


def test_lovasz_is_the_choquet_integral_of_one_minus_iou() -> None:
    """The extension of a set function: its values at all level sets of the errors, weighed by the steps between these."""
    logits, labels = drawn(3, size=4)
    known, found = labels.numpy() >= 0, []
    for c in range(3):
        truth, errors = (labels.numpy() == c)[known], np.abs((labels.numpy() == c) - logits.softmax(dim=1).numpy()[:, c])[known]
        total = 0.0
        for low, high in pairwise([0.0, *np.sort(errors)]):
            wrong = errors >= high
            total += (high - low) * wrong.sum() / (truth | wrong).sum()
        found.append(total)
    assert lovasz(logits, labels) == pytest.approx(np.mean(found), rel=1e-5)


def test_lovasz_of_certain_scores_is_one_minus_iou() -> None:
    labels = torch.tensor([[[0, 0, 0, 1, 1, UNLABELLED]]])
    guess = torch.tensor([[[0, 1, 0, 1, 0, 0]]])
    logits = 1000.0 * torch.nn.functional.one_hot(guess, 2).movedim(-1, 1)
    assert lovasz(logits, labels) == pytest.approx(1 - (2 / 4 + 1 / 3) / 2)


def test_distances_are_those_of_brute_force_and_skip_unlabelled_ground() -> None:
    labels = np.random.default_rng(0).integers(-1, 3, (6, 7))
    labels[2:5] = np.where(labels[2:5] == 2, UNLABELLED, labels[2:5])
    found = signed_distances(labels, 4)
    places = np.stack(np.meshgrid(range(6), range(7), indexing="ij"), axis=-1)
    for index, row, col in np.ndindex(found.shape):
        own = labels[row, col]
        others = places[(labels != UNLABELLED) & ((labels == index) != (own == index))]
        nearest = np.sqrt(((others - (row, col)) ** 2).sum(axis=-1).min()) if len(others) else None
        told = 0 if own == UNLABELLED or nearest is None else 1 - nearest if own == index else nearest
        assert found[index, row, col] == pytest.approx(told)


def test_the_boundary_loss_is_probability_times_distance_and_lowest_at_the_truth() -> None:
    labels = torch.tensor([[[0, 0, 1, 1, UNLABELLED]]])
    even = torch.zeros(1, 2, 1, 5)
    outside = {0: [0, 0, 1, 2, 0], 1: [2, 1, 0, 0, 0]}
    inside = {0: [-1, 0, 0, 0, 0], 1: [0, 0, 0, -1, 0]}
    by_hand = sum(0.5 * (sum(outside[c]) + sum(inside[c])) / 5 for c in (0, 1)) / 4
    assert boundary(even, labels) == pytest.approx(by_hand)
    right = 50.0 * torch.nn.functional.one_hot(labels.clamp(min=0), 2).movedim(-1, 1)
    assert boundary(right, labels) < boundary(even, labels) < boundary(right.flip(1), labels)


@pytest.mark.parametrize("name", [name for name in ALL if name != "boundary"])
def test_a_heavier_class_weighs_more(name: str) -> None:
    labels = torch.tensor([[[0, 1]]])
    wrong_about_1 = torch.tensor([[[[4.0, 4.0]], [[-4.0, -4.0]]]])
    light, heavy = torch.tensor([1.0, 1.0]), torch.tensor([0.5, 1.5])
    loss = get_loss(name)
    if name in OF_REGIONS:  # both regions are half wrong, so the larger one is made worse
        wrong_about_1, labels = torch.cat([wrong_about_1] * 2, dim=3), torch.tensor([[[0, 1, 0, 0]]])
    assert loss(wrong_about_1, labels, heavy) > loss(wrong_about_1, labels, light)


@pytest.mark.parametrize("name", OF_REGIONS)
def test_a_class_that_no_label_holds_is_left_out(name: str) -> None:
    logits, labels = drawn(3)
    labels[labels == 2] = UNLABELLED
    weights = torch.tensor([1.0, 1.0, 100.0])
    assert get_loss(name)(logits, labels, weights) == pytest.approx(get_loss(name)(logits, labels, None).item())


@pytest.mark.parametrize("name", ALL)
def test_a_batch_of_classes_that_weigh_nothing_is_no_nan(name: str) -> None:
    logits, labels = drawn(2)
    assert torch.isfinite(get_loss(name)(logits, labels.clamp(max=0), torch.tensor([0.0, 1.0])))


def test_names_that_are_joined_are_meant_in_the_mean() -> None:
    logits, labels = drawn()
    weights = torch.tensor([0.5, 1.0, 2.0])
    parts = (cross_entropy(logits, labels, weights) + focal(logits, labels, weights) + lovasz(logits, labels, weights)) / 3
    assert get_loss("cross_entropy_focal_lovasz")(logits, labels, weights) == pytest.approx(parts.item())


def test_half_precision_is_summed_in_float32() -> None:
    logits, labels = drawn(2, size=300)
    for name in ALL:
        exact = get_loss(name)(logits.half().float(), labels, None)
        assert get_loss(name)(logits.half(), labels, None) == pytest.approx(exact.item(), rel=1e-6)


def test_an_unknown_loss_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean focal"):
        get_loss("vocal")
    with pytest.raises(InputError, match="known are cross_entropy, focal, dice, tversky, lovasz, boundary"):
        get_loss("hinge2")


def test_smoothing_without_cross_entropy_is_refused() -> None:
    with pytest.raises(InputError, match="take cross_entropy_dice"):
        get_loss("dice", label_smoothing=0.1)
