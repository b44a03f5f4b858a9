"""Networks that look at surroundings only are told from those that look at the whole tile."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the extra train brings it")
pytest.importorskip("segmentation_models_pytorch", reason="the extra train brings it")

import torch

from geoseg.models.reach import looks_around_only
from geoseg.models.segmenter import build_network


@pytest.mark.parametrize(
    ("family", "encoder", "local"),
    [
        ("smp.Unet", "resnet18", True),
        ("smp.Linknet", "tu-resnet10t", True),
        ("smp.FPN", "resnet18", False),  # group normalisation
        ("smp.Unet", "tu-mobilenetv3_small_050", False),  # squeeze-and-excitation
        ("smp.DeepLabV3Plus", "resnet18", False),  # means over the tile
        ("smp.Segformer", "mit_b0", False),  # attention
    ],
)
def test_a_mean_over_the_tile_is_noticed(family, encoder, local):
    network = build_network({"family": family, "encoder": encoder, "in_channels": 3, "classes": 2}).train()
    assert looks_around_only(network, 3) is local
    assert network.training


def test_a_network_for_one_size_is_not_given_another():
    class OneSize(torch.nn.Module):
        def forward(self, image):
            return {"classes": image.reshape(1, 3, 256, 256)}

    assert not looks_around_only(OneSize(), 3)
