"""Masks that follow spectral indices: what is hidden, what is seen, what is scored, each beside a case in which it would not hold."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy.stats import chi2

from geoseg.backbones.mae import MaskedAutoencoder, choose_hidden, normalised_patches, patches_with_data, reconstruction_loss
from geoseg.backbones.saliency import heterogeneity, richness, saliency
from geoseg.backbones.sigmae import guided_masking, guided_share, random_masking
from geoseg.preprocess.indices import spectral_index
from geoseg.raster import Raster
from geoseg.sensors import Band

pytestmark = pytest.mark.usefixtures("one_thread")

ROLES = ("green", "red", "nir", "swir16")
INDICES = ("NDVI", "NDWI", "NDBI")
WATER, FOREST, ROOF, ROAD = (0.06, 0.04, 0.02, 0.01), (0.06, 0.04, 0.40, 0.20), (0.20, 0.25, 0.28, 0.38), (0.10, 0.10, 0.12, 0.13)
"""Reflectance by role."""
PATCH = 8


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def raster_of(values: np.ndarray, roles: tuple[str, ...] = ROLES) -> Raster:
    grid = GeoBox(values.shape[1:], Affine(10, 0, 5e5, 0, -10, 5e6), "EPSG:32633")
    return Raster(values, np.ones(values.shape, dtype=bool), grid, tuple(Band(role, role, unit="reflectance") for role in roles))


def town_by_a_lake() -> np.ndarray:
    """(band, row, col) reflectance: water left, forest right, and a town as large as one patch on four patches of the forest."""
    noise = np.random.default_rng(0).normal(1, 0.03, (4, 64, 64))
    image = np.empty((4, 64, 64))
    image[:, :, :28], image[:, :, 28:] = np.reshape(WATER, (4, 1, 1)), np.reshape(FOREST, (4, 1, 1))
    roofs = np.add.outer(np.arange(8), np.arange(8)) % 4 < 2
    image[:, 36:44, 44:52] = np.where(roofs, np.reshape(ROOF, (4, 1, 1)), np.reshape(ROAD, (4, 1, 1)))
    return (image * noise).astype(np.float32)


def index_planes(raster: Raster) -> torch.Tensor:
    """(1, index, row, col)."""
    return torch.from_numpy(np.stack([spectral_index(name, raster) for name in INDICES]))[None]


def scene_saliency(raster: Raster, **options: float) -> torch.Tensor:
    return saliency(index_planes(raster), torch.ones(1, 64, 64, dtype=torch.bool), PATCH, **options)


# ---------------------------------------------------------------- which patches are hidden


@pytest.mark.parametrize("ratio", [0.25, 0.75, 0.9])
def test_in_the_end_the_most_salient_patches_are_hidden(ratio: float) -> None:
    scores = torch.rand(5, 64, generator=seeded())
    masked = guided_masking(scores, torch.ones(5, 64, dtype=torch.bool), ratio=ratio, share=guided_share(1.0)).masked
    for row, found in zip(scores.tolist(), masked, strict=True):
        best = sorted(range(64), key=lambda place: -row[place])[: int(ratio * 64)]
        assert set(found.nonzero().flatten().tolist()) == set(best)
    half = guided_masking(scores, torch.ones(5, 64, dtype=torch.bool), ratio=ratio, share=0.5, generator=seeded(5)).masked
    assert not torch.equal(half, masked)
    assert half.sum(dim=1).tolist() == masked.sum(dim=1).tolist()


def departure_from_even(share: float) -> float:
    """Chi-square of how often each of 64 patches is hidden in 2000 draws of 48 without replacement, of equal chances."""
    scores = torch.rand(1, 64, generator=seeded()).expand(2000, -1)
    masked = guided_masking(scores, torch.ones(2000, 64, dtype=torch.bool), ratio=0.75, share=share, generator=seeded(1)).masked
    counts = masked.sum(dim=0).double()
    variance = 2000 * 0.75 * 0.25
    return float(((counts - 1500) ** 2).sum() / variance * 63 / 64)


def test_in_the_beginning_every_patch_is_hidden_as_often() -> None:
    least, most = chi2.ppf([0.001, 0.999], df=63)
    assert least < departure_from_even(guided_share(0.0)) < most
    assert departure_from_even(guided_share(0.2)) > 10 * most


def test_without_guidance_this_is_plain_mae() -> None:
    scores, has_data = torch.rand(3, 64, generator=seeded()), torch.ones(3, 64, dtype=torch.bool)
    guided = guided_masking(scores, has_data, ratio=0.75, share=0.0, generator=seeded(2))
    plain = random_masking(has_data, ratio=0.75, generator=seeded(2))
    assert torch.equal(guided.masked, plain.masked)
    assert torch.equal(guided.visible, plain.visible)


@pytest.mark.parametrize("curriculum", ["linear", "cosine"])
def test_guidance_rises_from_nothing_to_all(curriculum: str) -> None:
    shares = [guided_share(step / 10, curriculum) for step in range(11)]
    assert (shares[0], shares[5], shares[10]) == pytest.approx((0, 0.5, 1))
    assert shares == sorted(shares)
    assert guided_share(0, "none") == 1


# ---------------------------------------------------------------- saliency


def town_and_edges() -> torch.Tensor:
    """(patch,) True for the four patches of the town and the column with the shore."""
    marked = torch.zeros(8, 8, dtype=torch.bool)
    marked[:, 3], marked[4:6, 5:7] = True, True
    return marked.flatten()


def test_a_town_and_a_shore_are_hidden_twice_as_often_as_the_rest() -> None:
    raster, has_data, marked = raster_of(town_by_a_lake()), torch.ones(1, 64, dtype=torch.bool), town_and_edges()
    guided = guided_masking(scene_saliency(raster), has_data, ratio=0.25, share=1.0).masked[0]
    assert guided[marked].double().mean() >= 2 * 0.25
    plain = random_masking(has_data.expand(500, -1), ratio=0.25, generator=seeded()).masked.double().mean(dim=0)
    assert plain[marked].mean() < 1.2 * 0.25


@pytest.mark.parametrize("ratio", [0.75, 0.9])
def test_at_high_ratios_the_odds_of_a_town_and_a_shore_exceed_the_rests(ratio: float) -> None:
    scores, marked = scene_saliency(raster_of(town_by_a_lake())), town_and_edges()
    has_data = torch.ones(1, 64, dtype=torch.bool)
    masked = guided_masking(scores, has_data, ratio=ratio, share=1.0).masked[0]
    assert masked[marked].double().mean() > masked[~marked].double().mean()
    turned = guided_masking(1 - scores, has_data, ratio=ratio, share=1.0).masked[0]
    assert turned[marked].double().mean() < turned[~marked].double().mean()


def test_saliency_does_not_change_with_the_light() -> None:
    image = town_by_a_lake()
    before = scene_saliency(raster_of(image))
    torch.testing.assert_close(scene_saliency(raster_of(image * np.float32(1.7))), before, rtol=0, atol=1e-4)
    one_band = image.copy()
    one_band[2] *= 1.7
    assert (scene_saliency(raster_of(one_band)) - before).abs().max() > 0.05


def test_saliency_goes_by_roles_not_by_the_order_of_bands() -> None:
    image, turned = town_by_a_lake(), (3, 0, 2, 1)
    before, moved = scene_saliency(raster_of(image)), image[list(turned)]
    assert torch.equal(scene_saliency(raster_of(moved, tuple(ROLES[place] for place in turned))), before)
    assert not torch.allclose(scene_saliency(raster_of(moved)), before, atol=0.05)


def test_indices_are_their_closed_form_and_numbers_where_all_bands_are_dark() -> None:
    image = town_by_a_lake()
    image[:, :2] = 0
    green, red, nir, swir = image.astype(np.float64)
    with np.errstate(invalid="ignore"):
        divided = np.array([(one - other) / (one + other) for one, other in ((nir, red), (green, nir), (swir, nir))])
    found = index_planes(raster_of(image))[0].numpy()
    np.testing.assert_allclose(found, np.nan_to_num(divided), rtol=0, atol=1e-6)
    assert np.isnan(divided[:, :2]).all(), "of the plain quotient nothing is left where all is dark"
    assert np.isfinite(found).all()
    assert np.abs(found[1] - (green - red)[np.newaxis] / np.maximum(green + red, 1e-9)).max() > 0.1, "NDWI is of near infrared"
    assert torch.isfinite(scene_saliency(raster_of(image))).all()


def test_saliency_is_that_of_its_definition() -> None:
    planes = index_planes(raster_of(town_by_a_lake()))
    scaled = np.stack([(plane - plane.min()) / (plane.max() - plane.min()) for plane in planes[0].numpy()])
    blocks = scaled.reshape(3, 8, 8, 8, 8).transpose(0, 1, 3, 2, 4).reshape(3, 64, 64)  # (index, patch, pixel)
    rich, mixed = blocks.max(axis=0).mean(axis=1), blocks.std(axis=2).mean(axis=0)
    valid = torch.ones(1, 64, 64, dtype=torch.bool)
    np.testing.assert_allclose(richness(planes, valid, PATCH)[0], rich, atol=1e-5)
    np.testing.assert_allclose(heterogeneity(planes, valid, PATCH)[0], mixed, atol=1e-5)
    one, other = ((part - part.min()) / (part.max() - part.min()) for part in (rich, mixed))
    np.testing.assert_allclose(saliency(planes, valid, PATCH, alpha=0.3)[0], 0.3 * one + 0.7 * other, atol=1e-4)


def test_what_is_not_valid_does_not_change_the_saliency_of_the_rest() -> None:
    planes, valid = index_planes(raster_of(town_by_a_lake())), torch.ones(1, 64, 64, dtype=torch.bool)
    valid[:, :12] = False
    wild = planes.clone()
    wild[:, :, :12] = 9
    assert torch.equal(saliency(planes, valid, PATCH), saliency(wild, valid, PATCH))
    assert not torch.equal(saliency(planes, ~valid | valid, PATCH), saliency(wild, ~valid | valid, PATCH))
    assert saliency(planes, valid, PATCH)[0, :8].eq(0).all()


# ---------------------------------------------------------------- what is seen and scored


def network(channels: int = 2) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(channels, size="tiny", patch=PATCH, depth=1)


def half_covered() -> tuple[torch.Tensor, torch.Tensor]:
    """Two images (2, 2, 64, 64) and where they are valid: the first everywhere, of the second the upper rows have no data."""
    valid = torch.ones(2, 64, 64, dtype=torch.bool)
    valid[1, :28] = False
    return torch.randn(2, 2, 64, 64, generator=seeded()) * valid[:, None], valid


@pytest.mark.parametrize("ratio", [0.25, 0.29, 0.75, 0.9])
def test_the_encoder_sees_exactly_the_visible_tokens(ratio: float) -> None:
    model, (image, valid) = network(), half_covered()
    seen: list[int] = []
    model.encoder.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    has_data = patches_with_data(valid, PATCH)
    model(image, random_masking(has_data, ratio=ratio, generator=seeded()), has_data=has_data)
    model.encoder(image)
    assert seen == [64 - int(ratio * 64), 64]


@pytest.mark.parametrize("ratio", [0.25, 0.75, 0.9])
def test_patches_without_data_are_never_hidden_to_be_guessed(ratio: float) -> None:
    _, valid = half_covered()
    has_data = patches_with_data(valid, PATCH)
    assert has_data.sum(dim=1).tolist() == [64, 40], "rows of patches that are cut by the edge of the data count"
    masking = random_masking(has_data, ratio=ratio, generator=seeded())
    assert not (masking.masked & ~has_data).any()
    assert masking.masked.sum(dim=1).tolist() == [int(ratio * 64), int(ratio * 40)]
    assert not masking.masked.gather(1, masking.visible).any()
    naive = choose_hidden(torch.rand(2, 64, generator=seeded()), torch.ones(2, 64, dtype=torch.bool), ratio).masked
    assert (naive & ~has_data).any()


def test_what_has_no_data_is_not_scored() -> None:
    image, valid = half_covered()
    masked = torch.ones(2, 64, dtype=torch.bool)
    guess = torch.randn(2, 64, PATCH * PATCH * 2, generator=seeded(1))
    wild = torch.where(valid[:, None], image, torch.full_like(image, 1e3))
    loss = reconstruction_loss(guess, image, valid, masked, PATCH)
    assert torch.equal(loss, reconstruction_loss(guess, wild, valid, masked, PATCH))
    assert not torch.isclose(loss, reconstruction_loss(guess, wild, torch.ones_like(valid), masked, PATCH))


def test_the_loss_on_visible_patches_is_exactly_nothing() -> None:
    model, (image, valid) = network(), half_covered()
    has_data = patches_with_data(valid, PATCH)
    masking = random_masking(has_data, ratio=0.75, generator=seeded())
    guess = model(image, masking, has_data=has_data)
    guess.retain_grad()
    reconstruction_loss(guess, image, valid, masking.masked, PATCH).backward()
    assert guess.grad[~masking.masked].eq(0).all()
    assert guess.grad[masking.masked].ne(0).any(dim=-1).all()
    assert model.encoder.embed.weight.grad.ne(0).any()


def test_targets_are_normalised_patch_by_patch_over_all_bands() -> None:
    image = 3 + 5 * torch.randn(1, 2, 16, 16, generator=seeded())
    valid = torch.ones(1, 16, 16, dtype=torch.bool)
    valid[0, 0, 8:] = False
    found = normalised_patches(image, valid, PATCH)
    corner = image[0, :, :8, 8:].numpy()
    known = corner[:, 1:]
    expected = (corner - known.mean()) / known.std()
    expected[:, 0] = 0
    np.testing.assert_allclose(found[0, 1].reshape(8, 8, 2).permute(2, 0, 1), expected, atol=1e-4)


def test_a_right_guess_costs_nothing() -> None:
    image, valid = half_covered()
    masked = patches_with_data(valid, PATCH)
    target = normalised_patches(image, valid, PATCH)
    assert reconstruction_loss(target, image, valid, masked, PATCH) == 0
    by_hand = [((target[one, place] - 1) ** 2)[np.asarray(_known(valid, one, place))].mean() for one, place in masked.nonzero().tolist()]
    assert reconstruction_loss(torch.ones_like(target), image, valid, masked, PATCH) == pytest.approx(np.mean(by_hand), rel=1e-5)


def _known(valid: torch.Tensor, image: int, place: int) -> torch.Tensor:
    row, col = divmod(place, 8)
    return valid[image, row * 8 : row * 8 + 8, col * 8 : col * 8 + 8].flatten().repeat_interleave(2)


def test_hidden_ground_does_not_change_the_guess() -> None:
    model, (image, valid) = network().eval(), half_covered()
    has_data = patches_with_data(valid, PATCH)
    masking = random_masking(has_data, ratio=0.75, generator=seeded())
    hidden = masking.masked.view(2, 1, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    with torch.inference_mode():
        guess = model(image, masking, has_data=has_data)
        assert torch.equal(guess, model(torch.where(hidden, 7.0, image), masking, has_data=has_data))
        assert not torch.allclose(guess, model(torch.where(hidden, image, 7.0), masking, has_data=has_data))


def test_masks_are_the_same_in_every_run() -> None:
    scores, has_data = torch.rand(3, 64, generator=seeded()), torch.ones(3, 64, dtype=torch.bool)
    draws = [guided_masking(scores, has_data, ratio=0.75, share=0.4, generator=seeded(seed)).masked for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
