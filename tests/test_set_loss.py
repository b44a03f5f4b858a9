"""How queries learn: against transformers' Mask2Former, against every permutation, and what has no say in it."""

from __future__ import annotations

from functools import partial
from itertools import permutations

import pytest

pytest.importorskip("torch")

import torch
from torch.nn import functional

from geoseg.backbones.query_decoder import Said
from geoseg.data.windows import UNLABELLED
from geoseg.models.set_loss import CLASS, DICE, MASK, layer_losses, match, set_loss, unsure_places, values_at

CLASSES, QUERIES, EDGE = 3, 6, 12


def drawn(seed: int = 0, *, step: int = 1) -> Said:
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randn(2, QUERIES, CLASSES + 1, generator=generator)
    return Said(classes, 3 * torch.randn(2, QUERIES, EDGE // step, EDGE // step, generator=generator), step)


def labels(seed: int = 1) -> torch.Tensor:
    return torch.randint(0, CLASSES, (2, EDGE, EDGE), generator=torch.Generator().manual_seed(seed))


# Against transformers


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch):
    """Mask2Former's loss in transformers, with every pixel's middle for its points instead of random ones."""
    mask2former = pytest.importorskip("transformers.models.mask2former.modeling_mask2former")
    config = pytest.importorskip("transformers").Mask2FormerConfig(
        num_labels=CLASSES, train_num_points=EDGE * EDGE, oversample_ratio=1.0, importance_sample_ratio=0.0
    )
    middles = (torch.arange(EDGE) + 0.5) / EDGE
    grid = torch.stack(torch.meshgrid(middles, middles, indexing="ij"), dim=-1).flip(-1).reshape(1, -1, 2)
    monkeypatch.setattr(torch, "rand", lambda count, *_, **__: grid.repeat(count, 1, 1))
    weights = {"loss_cross_entropy": CLASS, "loss_mask": MASK, "loss_dice": DICE}
    return mask2former.Mask2FormerLoss(config=config, weight_dict=weights)


def test_losses_and_matching_are_those_of_transformers(theirs) -> None:
    said, truth = drawn(), labels()
    truth[1] = torch.where(truth[1] == 2, 0, truth[1])  # two classes in the second image
    present = [truth[0].unique(), truth[1].unique()]
    masks = [torch.stack([(image == number).float() for number in own]) for image, own in zip(truth, present, strict=True)]
    expected = theirs(said.masks, said.classes, masks, present)
    ours = layer_losses(said, truth)
    for name, value in (("loss_cross_entropy", ours.classes), ("loss_mask", ours.masks), ("loss_dice", ours.dice)):
        assert value.item() == pytest.approx(expected[name].item(), abs=1e-5)
    weighed = sum(theirs.weight_dict[name] * value for name, value in expected.items())
    assert ours.total.item() == pytest.approx(weighed.item(), abs=1e-5)
    assert layer_losses(drawn(5), truth).total.item() != pytest.approx(weighed.item(), abs=1e-2), "other queries, another loss"
    assert (theirs.matcher.cost_class, theirs.matcher.cost_mask, theirs.matcher.cost_dice) == (CLASS, MASK, DICE)
    for number, (queries, targets) in enumerate(theirs.matcher(said.masks, said.classes, masks, present)):
        own = match(said.classes[number], said.masks[number].flatten(1), masks[number].flatten(1), present[number])
        assert torch.equal(own[0], queries)
        assert torch.equal(own[1], targets)


# Matching


def costs(said: Said, truth: torch.Tensor) -> torch.Tensor:
    """(query, class) of the first image, from the definitions."""
    found = torch.zeros(QUERIES, CLASSES)
    for query in range(QUERIES):
        for number in range(CLASSES):
            inside, logits = (truth[0] == number).float(), said.masks[0, query]
            share = logits.sigmoid()
            dice = 1 - (2 * (share * inside).sum() + 1) / (share.sum() + inside.sum() + 1)
            cross = functional.binary_cross_entropy_with_logits(logits, inside)
            found[query, number] = MASK * cross + DICE * dice - CLASS * said.classes[0, query].softmax(-1)[number]
    return found


def matched(said: Said, truth: torch.Tensor) -> dict[int, int]:
    """Class → query, of the first image."""
    inside = torch.stack([(truth[0] == number).flatten().float() for number in range(CLASSES)])
    queries, targets = match(said.classes[0], said.masks[0].flatten(1), inside, torch.arange(CLASSES))
    return dict(zip(targets.tolist(), queries.tolist(), strict=True))


def test_no_other_matching_costs_less() -> None:
    said, truth = drawn(), labels()
    table = costs(said, truth)
    sums = {chosen: float(table[list(chosen), range(CLASSES)].sum()) for chosen in permutations(range(QUERIES), CLASSES)}
    ours = tuple(matched(said, truth)[number] for number in range(CLASSES))
    assert ours == min(sums, key=sums.__getitem__)
    assert sums[ours] < sorted(sums.values())[1], "and the next best does"


def test_the_order_of_queries_does_not_matter() -> None:
    said, truth, order = drawn(), labels(), torch.tensor([3, 0, 5, 1, 4, 2])
    other = Said(said.classes[:, order], said.masks[:, order], 1)
    assert set_loss([other], truth).item() == pytest.approx(set_loss([said], truth).item(), rel=1e-6)
    before, after = matched(said, truth), matched(other, truth)
    assert {number: int(order[query]) for number, query in after.items()} == before
    half = Said(said.classes[:, order], said.masks, 1)
    assert set_loss([half], truth).item() != pytest.approx(set_loss([said], truth).item(), rel=1e-3), "classes go with their masks"


def perfect(truth: torch.Tensor) -> Said:
    """Queries 0, 1, 2 say classes 0, 1, 2; the others nothing."""
    classes = torch.full((2, QUERIES, CLASSES + 1), -20.0)
    for query in range(QUERIES):
        classes[:, query, min(query, CLASSES)] = 20.0
    masks = torch.full((2, QUERIES, EDGE, EDGE), -20.0)
    for number in range(CLASSES):
        masks[:, number] = torch.where(truth == number, 20.0, -20.0)
    return Said(classes, masks, 1)


def test_saying_all_rightly_costs_nothing() -> None:
    truth = labels()
    right = perfect(truth)
    losses = layer_losses(right, truth)
    assert max(losses.classes.item(), losses.masks.item(), losses.dice.item()) < 1e-4
    wrong = right.masks[:, [1, 0, 2, 3, 4, 5]]
    assert layer_losses(Said(right.classes, wrong, 1), truth).total > 1, "masks of the other class"


# What has a say


def test_ground_without_labels_has_no_say() -> None:
    said, truth = drawn(), labels()
    truth[:, 3:8] = UNLABELLED
    spoilt = said.masks.clone()
    spoilt[:, :, 3:8] = 30.0
    assert set_loss([Said(said.classes, spoilt, 1)], truth).item() == pytest.approx(set_loss([said], truth).item(), rel=1e-6)
    spoilt[:, :, 2] = 30.0
    assert set_loss([Said(said.classes, spoilt, 1)], truth).item() != pytest.approx(set_loss([said], truth).item(), rel=1e-2)


def test_ground_without_labels_gets_no_gradient() -> None:
    said, truth = drawn(), labels()
    truth[:, 3:8] = UNLABELLED
    said.masks.requires_grad_()
    set_loss([said], truth).backward()
    moved = said.masks.grad.abs().sum(dim=(0, 1))
    assert moved[3:8].max() == 0
    assert (moved[:3] > 0).any()


def test_an_image_without_labels_says_nothing() -> None:
    said, truth = drawn(), labels()
    truth[1] = UNLABELLED
    for part in (said.classes, said.masks):
        part.requires_grad_()
    both = set_loss([said], truth)
    both.backward()
    alone = Said(said.classes[:1], said.masks[:1], 1)
    assert both.item() == pytest.approx(set_loss([alone], truth[:1]).item(), rel=1e-6)
    for part in (said.classes, said.masks):
        assert part.grad[1].abs().max() == 0
        assert part.grad[0].abs().max() > 0
    nothing = set_loss([said], torch.full_like(truth, UNLABELLED))
    assert nothing.item() == 0
    nothing.backward()


def test_each_layer_counts_once() -> None:
    truth = labels()
    one, other = drawn(0), drawn(7)
    assert set_loss([one, other], truth).item() == pytest.approx(set_loss([one], truth).item() + set_loss([other], truth).item())


# Points


def test_values_between_places_are_those_of_a_stretched_mask() -> None:
    planes = torch.randn(2, 3, 4)
    stretched = functional.interpolate(planes[None], scale_factor=4.0, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(values_at(planes, torch.arange(12 * 16), 16, 4), stretched.flatten(1))
    inside = stretched[:, :10, :13]  # an image that ends before the planes do
    torch.testing.assert_close(values_at(planes, torch.arange(10 * 13), 13, 4), inside.flatten(1))
    own = torch.stack([torch.arange(5), torch.arange(5) + 30])
    expected = torch.stack([stretched[0].flatten()[own[0]], stretched[1].flatten()[own[1]]])
    torch.testing.assert_close(values_at(planes, own, 16, 4), expected)


def test_points_are_labelled_and_lie_where_a_mask_is_unsure() -> None:
    masks = torch.full((2, 64, 64), 8.0)
    masks[0, :, :16] = 0.1
    places = torch.arange(64 * 64)[64 * 8 :]  # the first rows have no labels
    values = partial(values_at, masks, cols=64, step=1)
    points = unsure_places(values, 2, places, 200, torch.Generator().manual_seed(0))
    assert points.shape == (2, 200)
    assert points.min() >= 64 * 8
    unsure = ((points % 64) < 16).float().mean(dim=1)
    assert unsure[0] > 0.7, "three quarters are taken there, of three times as many"
    assert unsure[1] < 0.4, "where a mask is sure everywhere a quarter lies in a quarter of the ground"
    assert torch.equal(unsure_places(values, 2, places[:200], 200), places[:200].expand(2, -1)), "few pixels are all taken"


def test_few_points_stand_for_many() -> None:
    said, truth = drawn(), labels()
    whole = layer_losses(said, truth)
    drawn_losses = [layer_losses(said, truth, points=100, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
    assert len({losses.masks.item() for losses in drawn_losses}) == 8
    assert all(losses.classes.item() == pytest.approx(whole.classes.item(), rel=0.5) for losses in drawn_losses)
    assert sum(losses.masks.item() for losses in drawn_losses) / 8 < whole.masks.item(), "unsure places cost less than wrong ones"


def test_masks_of_half_the_size_are_compared_in_full() -> None:
    said, truth = drawn(step=2), labels()
    large = functional.interpolate(said.masks, scale_factor=2.0, mode="bilinear", align_corners=False)
    expected = set_loss([Said(said.classes, large, 1)], truth).item()
    assert set_loss([said], truth).item() == pytest.approx(expected, rel=1e-5)
