"""From coarse to fine: which regions are hidden, what the cascade hands on, what is scored, each beside a case where it does not hold."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("timm")

import torch

from geoseg.backbones.c2fmae import UNKNOWN, CascadedAutoencoder, Losses, cascade_losses, chances, region_masking
from geoseg.backbones.mae import Masking, patches_with_data
from geoseg.backbones.sigmae import random_masking
from geoseg.recipes._coarse_targets import connected_pieces, index_classes

pytestmark = pytest.mark.usefixtures("one_thread")

PATCH = 8
ALL = torch.ones(1, 64, dtype=torch.bool)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_patch(regions: torch.Tensor) -> torch.Tensor:
    """(1, 64, 64) pixels from 8 x 8 patches."""
    return regions.repeat_interleave(8, 0).repeat_interleave(8, 1)[None]


def quarters() -> torch.Tensor:
    rows, cols = torch.meshgrid(torch.arange(8) // 4, torch.arange(8) // 4, indexing="ij")
    return rows * 2 + cols


def cut_regions(regions: torch.Tensor, masked: torch.Tensor) -> int:
    """How many regions are hidden in part."""
    return sum(0 < float(masked[regions.flatten() == one].double().mean()) < 1 for one in regions.unique())


# ---------------------------------------------------------------- which patches are hidden


def test_whole_regions_are_hidden() -> None:
    regions = quarters()
    for seed in range(20):
        masked = region_masking(by_patch(regions), ALL, ratio=0.75, patch=PATCH, generator=seeded(seed)).masked[0]
        assert cut_regions(regions, masked) == 0
        assert masked.sum() == 48
    plain = random_masking(ALL, ratio=0.75, generator=seeded()).masked[0]
    assert cut_regions(regions, plain) == 4


@pytest.mark.parametrize("ratio", [0.5, 0.75, 0.9])
def test_at_most_one_region_is_cut(ratio: float) -> None:
    regions = torch.randint(0, 9, (8, 8), generator=seeded())
    for seed in range(20):
        masked = region_masking(by_patch(regions), ALL, ratio=ratio, patch=PATCH, generator=seeded(seed)).masked[0]
        assert cut_regions(regions, masked) <= 1
        assert masked.sum() == int(ratio * 64)


def test_every_region_has_its_turn() -> None:
    hidden = torch.stack(
        [region_masking(by_patch(quarters()), ALL, ratio=0.25, patch=PATCH, generator=seeded(seed)).masked[0] for seed in range(200)]
    )
    share = hidden.double().mean(dim=0)
    assert share.min() > 0.15
    assert share.max() < 0.35


def test_the_number_of_hidden_patches_is_the_same_throughout() -> None:
    regions, pieces = by_patch(quarters()), by_patch(torch.arange(64).view(8, 8))
    counts = set()
    for step in range(11):
        odds = chances(step / 10)
        which = int(torch.multinomial(torch.tensor(odds), 1, generator=seeded(step)))
        guide = (regions, pieces, torch.full_like(regions, UNKNOWN))[which]
        masking = region_masking(guide, ALL, ratio=0.7, patch=PATCH, generator=seeded(step))
        counts.add((int(masking.masked.sum()), masking.visible.shape[1]))
    assert counts == {(44, 20)}
    reached = [torch.bincount(one[0, ::8, ::8].flatten()).cumsum(dim=0) for one in (regions, pieces)]
    assert [int(sizes[sizes >= 44][0]) for sizes in reached] == [48, 44], "were no region ever cut, the number would hang on their sizes"


def test_patches_without_data_are_never_hidden_to_be_guessed() -> None:
    valid = torch.ones(1, 64, 64, dtype=torch.bool)
    valid[:, :32] = False
    has_data = patches_with_data(valid, PATCH)
    regions = torch.where(valid, by_patch(quarters()), UNKNOWN)
    masking = region_masking(regions, has_data, ratio=0.5, patch=PATCH, generator=seeded())
    assert not (masking.masked & ~has_data).any()
    assert masking.masked.sum() == 16
    assert masking.visible.shape[1] == 32
    assert cut_regions(quarters(), masking.masked[0]) == 0


def test_a_patch_is_of_the_region_of_most_of_its_known_pixels() -> None:
    pixels = torch.full((1, 8, 32), UNKNOWN)
    pixels[0, :, 0:3], pixels[0, :, 3:8] = 0, 1  # mostly 1
    pixels[0, 0, 8] = 0  # one known pixel, of 0
    pixels[0, :, 16:20], pixels[0, :, 20:24] = 1, 0  # even: the least, 0
    found = set()
    for seed in range(20):
        masked = region_masking(pixels, torch.ones(1, 4, dtype=torch.bool), ratio=0.5, patch=PATCH, generator=seeded(seed)).masked[0]
        found.add(tuple(masked.tolist()))
    assert (False, True, True, False) in found, "region 0 first"
    assert all(row == (False, True, True, False) or row[0] for row in found), "region 1 first, then one of region 0"
    assert not any(row[3] for row in found), "of no region: hidden last"


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0, (1, 0, 0)), (1 / 6, (1, 0, 0)), (1 / 3, (0.5, 0.5, 0)), (0.5, (0, 1, 0)), (2 / 3, (0, 0.5, 0.5)), (1, (0, 0, 1))],
)
def test_the_mask_is_handed_over_from_classes_to_pieces_to_chance(progress: float, expected: tuple[float, ...]) -> None:
    assert chances(progress) == pytest.approx(expected)


# ---------------------------------------------------------------- what is guessed and scored


def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Image (2, 3, 64, 64), classes, pieces and validity; the second image has no data in its upper rows."""
    valid = torch.ones(2, 64, 64, dtype=torch.bool)
    valid[1, :28] = False
    classes = torch.where(valid, by_patch(quarters() % 2).expand(2, -1, -1), UNKNOWN)
    return torch.randn(2, 3, 64, 64, generator=seeded()) * valid[:, None], classes, connected_pieces(classes), valid


def losses(model: CascadedAutoencoder, *, cut: str = "") -> Losses:
    """Of one batch; with the tokens of the stage `cut` replaced by zeros for those behind it."""
    image, classes, pieces, valid = scene()
    has_data = patches_with_data(valid, PATCH)
    masking = random_masking(has_data, ratio=0.75, generator=seeded())
    handles = [getattr(model, cut).register_forward_hook(lambda *given: (torch.zeros_like(given[2][0]), given[2][1]))] if cut else []
    with torch.inference_mode():
        guess = model(image, masking, has_data=has_data)
    for handle in handles:
        handle.remove()
    return cascade_losses(guess, image, classes, pieces, valid, masking.masked, PATCH)


def network(*, cascaded: bool) -> CascadedAutoencoder:
    torch.manual_seed(0)
    return CascadedAutoencoder(3, 2, patch=PATCH, depth=1, cascaded=cascaded).eval()


@pytest.mark.parametrize("cascaded", [True, False])
def test_each_stage_uses_the_one_before_only_in_a_cascade(cascaded: bool) -> None:
    model = network(cascaded=cascaded)
    whole, without_classes, without_pieces = losses(model), losses(model, cut="semantic"), losses(model, cut="instance")
    assert torch.equal(whole.semantic, without_classes.semantic)
    assert torch.equal(whole.instance, without_classes.instance) != cascaded
    assert torch.equal(whole.pixels, without_classes.pixels) != cascaded
    assert torch.equal(whole.instance, without_pieces.instance)
    assert torch.equal(whole.pixels, without_pieces.pixels) != cascaded


def test_the_loss_on_visible_patches_is_exactly_nothing() -> None:
    model, (image, classes, pieces, valid) = network(cascaded=True), scene()
    has_data = patches_with_data(valid, PATCH)
    masking = random_masking(has_data, ratio=0.75, generator=seeded())
    guess = model(image, masking, has_data=has_data)
    parts = (guess.classes, guess.joined, guess.values)
    grads = torch.autograd.grad(cascade_losses(guess, image, classes, pieces, valid, masking.masked, PATCH).total, parts)
    for grad in grads:
        assert grad[~masking.masked].eq(0).all()
        assert grad[masking.masked].ne(0).any(dim=-1).all()
    guess = model(image, masking, has_data=has_data)
    everywhere = cascade_losses(guess, image, classes, pieces, valid, has_data, PATCH).total
    seen = torch.autograd.grad(everywhere, guess.values)[0][~masking.masked & has_data]
    assert seen.ne(0).any(dim=-1).all(), "scored everywhere, what is seen would count"


def test_losses_are_those_of_their_definition() -> None:
    model, (image, classes, pieces, valid) = network(cascaded=True), scene()
    masking = Masking(torch.arange(16).expand(2, -1), torch.zeros(2, 64, dtype=torch.bool))
    masking.masked[0, 27] = True  # pixels 24…31 in rows and columns of the first image: the corner of the first quarter
    with torch.inference_mode():
        guess = model(image, masking)
    found = cascade_losses(guess, image, classes, pieces, valid, masking.masked, PATCH)
    logits = guess.classes[0, 27].view(64, 2)
    assert found.semantic == pytest.approx(float(-logits.log_softmax(dim=1)[:, 0].mean()), rel=1e-5)
    joined, costs = guess.joined[0, 27].view(8, 8, 2).sigmoid().numpy(), []
    for row in range(8):
        for col in range(8):
            costs.append(-np.log(1 - joined[row, col, 0] if col == 7 else joined[row, col, 0]))  # the next quarter begins to the right
            costs.append(-np.log(joined[row, col, 1]))  # and one of the same class below, which touches it
    assert found.instance == pytest.approx(np.mean(costs), rel=1e-4)


def test_what_is_not_known_is_not_scored() -> None:
    model, (image, classes, pieces, valid) = network(cascaded=True), scene()
    with torch.inference_mode():
        guess = model(image, random_masking(torch.ones(2, 64, dtype=torch.bool), ratio=0.75, generator=seeded()))
    masked = torch.ones(2, 64, dtype=torch.bool)
    before = cascade_losses(guess, image, classes, pieces, valid, masked, PATCH)
    wild = [torch.where(valid, one, 1) for one in (classes, pieces)]
    after = cascade_losses(guess, image, *wild, valid, masked, PATCH)
    assert torch.equal(before.total, after.total)
    assert not torch.equal(before.total, cascade_losses(guess, image, *wild, torch.ones_like(valid), masked, PATCH).total)


# ---------------------------------------------------------------- classes and pieces from indices


def test_a_pixel_is_of_its_greatest_index_or_of_none() -> None:
    indices = torch.tensor([[0.6, -0.4, -0.2, 0.1], [0.2, 0.5, -0.1, 0.9]]).view(1, 2, 1, 4)
    valid = torch.tensor([[[True, True, True, False]]])
    assert index_classes(indices, valid).flatten().tolist() == [0, 1, 2, UNKNOWN]


def test_pieces_are_pixels_of_a_class_that_share_edges() -> None:
    classes = torch.tensor([[[0, 0, 1], [1, 0, UNKNOWN], [1, 1, 0]], [[2, 2, 2], [2, 0, 2], [2, 2, 2]]])
    first, second = connected_pieces(classes)
    assert first.tolist() == [[0, 0, 2], [3, 0, UNKNOWN], [3, 3, 1]]
    assert second.tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
