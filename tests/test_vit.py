"""The Vision Transformer against timm's, and what it looks at."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import torch
from timm.models import vision_transformer

from geoseg.backbones.vit import SIZES, VisionTransformer, attention_mask, positions
from geoseg.errors import PackageError
from geoseg.models.segmenter import count_parameters

pytestmark = pytest.mark.usefixtures("one_thread")


def small(in_channels: int = 3, patch: int = 4) -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(in_channels, size="tiny", patch=patch, depth=2).eval()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def timms(in_channels: int, patch: int, size: str, depth: int, edge: int) -> torch.nn.Module:
    wanted = SIZES[size]
    return vision_transformer.VisionTransformer(
        img_size=edge,
        patch_size=patch,
        in_chans=in_channels,
        num_classes=0,
        global_pool="",
        embed_dim=wanted.width,
        depth=depth,
        num_heads=wanted.heads,
        class_token=False,
    ).eval()


@pytest.mark.parametrize("size", SIZES)
def test_a_size_has_as_many_parameters_as_timms_without_its_table_of_positions(size: str) -> None:
    with torch.device("meta"):
        ours = VisionTransformer(10, size=size, patch=16)
        theirs = timms(10, 16, size, SIZES[size].depth, 32)
    assert count_parameters(ours) == count_parameters(theirs) - theirs.pos_embed.numel()


def test_features_are_timms_with_the_same_weights_and_positions() -> None:
    ours, theirs = small(), timms(3, 4, "tiny", 2, 16)
    state = {
        name.replace("embed.", "patch_embed.proj.", 1) if name.startswith("embed.") else name: t for name, t in ours.state_dict().items()
    }
    theirs.load_state_dict(state | {"pos_embed": positions(4, 4, 192, 10.0)})
    image = noise(2, 3, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(ours(image), theirs.forward_features(image), rtol=1e-4, atol=1e-4)


def sines(row: float, col: float, width: int) -> np.ndarray:
    """MAE's position of one patch."""
    speeds = 1 / 10_000 ** (np.arange(width // 4) / (width / 4))
    return np.concatenate([np.sin(row * speeds), np.cos(row * speeds), np.sin(col * speeds), np.cos(col * speeds)])


@pytest.mark.parametrize(("pixel_size_m", "step"), [(10.0, 1.0), (20.0, 2.0), (0.5, 0.05)])
def test_places_are_counted_in_metres(pixel_size_m: float, step: float) -> None:
    found = positions(3, 5, 32, pixel_size_m)[0].numpy()
    by_hand = [sines(row * step, col * step, 32) for row in range(3) for col in range(5)]
    np.testing.assert_allclose(found, by_hand, atol=1e-5)


def test_each_image_has_its_own_pixel_size() -> None:
    network, image = small(), noise(1, 3, 16, 16)
    both = network(image.expand(2, -1, -1, -1), pixel_size_m=torch.tensor([10.0, 30.0]))
    torch.testing.assert_close(both[1:], network(image, pixel_size_m=30.0))
    assert not torch.allclose(both[0], both[1])


def test_only_what_is_visible_is_looked_at() -> None:
    network, image = small(), noise(1, 3, 16, 16)
    visible = torch.tensor([[0, 5, 10]])
    other = image.clone()
    other[..., 12:, 12:] += 1  # the last patch
    seen = network(image, visible=visible)
    assert seen.shape == (1, 3, 192)
    assert torch.equal(seen, network(other, visible=visible))
    assert not torch.allclose(network(image), network(other))


def test_patches_without_data_have_no_say() -> None:
    network, image = small(), noise(1, 3, 16, 16)
    has_data = torch.ones(1, 16, dtype=torch.bool)
    has_data[0, 15] = False
    other = image.clone()
    other[..., 12:, 12:] += 1
    torch.testing.assert_close(network(image, has_data=has_data)[:, :15], network(other, has_data=has_data)[:, :15])
    assert not torch.allclose(network(image)[:, :15], network(other)[:, :15])


def test_an_image_without_any_data_gives_numbers() -> None:
    assert torch.isfinite(small()(noise(1, 3, 16, 16), has_data=torch.zeros(1, 16, dtype=torch.bool))).all()
    assert attention_mask(torch.ones(2, 3, dtype=torch.bool), torch.float32) is None


@pytest.mark.parametrize(
    ("options", "said"), [({"size": "huge"}, "known are tiny, small"), ({"depth": 0}, "at least 1"), ({"patch": 0}, "patches of 0 pixels")]
)
def test_what_cannot_be_built_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(PackageError, match=said):
        VisionTransformer(3, **options)
