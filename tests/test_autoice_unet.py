"""The AutoICE U-Net: the published parameter counts, with and without skip connections, as a network with three outputs."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from geoseg.backbones.autoice_unet import AutoIceUNet
from geoseg.errors import PackageError
from geoseg.models.segmenter import build_network, count_parameters

CLASSES_WITH_MASK = 12 + 7 + 8
OUTPUTS = {"concentration": 11, "stage": 6, "floe": 7}


@pytest.mark.parametrize(("channels", "parameters"), [(24, 491_723), (3, 488_699), (2, 488_555)])
def test_it_has_the_published_number_of_parameters(channels: int, parameters: int) -> None:
    assert count_parameters(AutoIceUNet(channels, CLASSES_WITH_MASK)) == parameters
    assert count_parameters(AutoIceUNet(channels, CLASSES_WITH_MASK, skips=False)) < parameters


def test_three_charts_come_out_at_the_images_size() -> None:
    network = build_network({"family": "autoice.UNet", "in_channels": 3, "outputs": OUTPUTS})
    scores = network(torch.zeros(2, 3, 64, 96))
    assert {name: tuple(planes.shape) for name, planes in scores.items()} == {name: (2, n, 64, 96) for name, n in OUTPUTS.items()}
    assert network.stride == 16


def test_without_skips_the_fine_levels_pass_through_the_coarsest_only() -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 64, 64)
    for skips in (True, False):
        network = AutoIceUNet(3, 4, skips=skips).eval()
        network.down[-1].register_forward_hook(lambda _, __, out: torch.zeros_like(out))
        same = torch.equal(network(image), network(image + torch.randn_like(image)))
        assert same is not skips


def test_an_unknown_option_is_one_sentence() -> None:
    with pytest.raises(PackageError, match="did you mean 'skips'"):
        build_network({"family": "autoice.UNet", "in_channels": 3, "classes": 2, "skip": True})
