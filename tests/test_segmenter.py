"""Networks by description, and their files."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("segmentation_models_pytorch")

import onnx
import torch

from geoseg.errors import PackageError
from geoseg.models.export import OPSET, check_parity, export_onnx, load_weights, run_network, save_weights
from geoseg.models.segmenter import ScoredNetwork, Segmenter, build_network, count_parameters

SMALL = {"family": "smp.Unet", "encoder": "tu-resnet10t", "encoder_depth": 3, "decoder_channels": [8, 8, 8], "in_channels": 3}
CLASSES = SimpleNamespace(name="classes", kind="classes")


def scored(seed: int = 0) -> ScoredNetwork:
    torch.manual_seed(seed)
    return ScoredNetwork(build_network({**SMALL, "classes": 2}), [CLASSES]).eval()


def images(batch: int = 2, rows: int = 32, cols: int = 40) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(batch, 3, rows, cols)).astype(np.float32)


def test_scores_are_probabilities_of_the_images_own_size() -> None:
    scores = run_network(scored(), images())["classes"]
    assert scores.shape == (2, 2, 32, 40)
    assert scores.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert scores.min() >= 0


def test_named_outputs_share_the_planes_in_order_and_quantities_stay_as_they_are() -> None:
    network = build_network({**SMALL, "outputs": {"ice": 3, "depth": 1}}).eval()
    kinds = [SimpleNamespace(name="ice", kind="classes"), SimpleNamespace(name="depth", kind="quantity")]
    image = torch.from_numpy(images())
    with torch.no_grad():
        planes, scores = network.network(image), ScoredNetwork(network, kinds)(image)
    assert torch.equal(scores["depth"], planes[:, 3:])
    assert torch.equal(scores["ice"], planes[:, :3].softmax(dim=1))


def test_building_a_network_fetches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert count_parameters(build_network({**SMALL, "classes": 2})) > 100_000


def test_a_foreign_description_cannot_ask_for_a_download() -> None:
    with pytest.raises(PackageError, match="no option 'encoder_weights'"):
        build_network({**SMALL, "classes": 2, "encoder_weights": "imagenet"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "smp.UNet"}, "did you mean smp.Unet"),
        ({"encoder": "tu-no_such_net"}, "cannot build smp.Unet"),
        ({"decoder_chanels": [8]}, "did you mean 'decoder_channels'"),
        ({"classes": 0}, "at least one plane"),
    ],
)
def test_a_description_that_cannot_be_built_says_why(change: dict[str, object], message: str) -> None:
    with pytest.raises(PackageError, match=message):
        build_network({**SMALL, "classes": 2, **change})


def test_the_stride_is_that_of_the_coarsest_features() -> None:
    assert build_network({**SMALL, "classes": 2}).stride == 8


def test_onnx_gives_the_networks_scores_at_sizes_it_was_not_traced_with() -> None:
    network = scored()
    parity = check_parity(export_onnx(network, 3, tile=32), network, [images(1), images(3, 64, 48)])
    assert parity.largest_difference < 1e-5
    assert parity.agreement == 1


def test_onnx_keeps_the_contract_of_model_packages() -> None:
    graph = onnx.load_from_string(export_onnx(scored(), 3))
    assert [entry.version for entry in graph.opset_import if not entry.domain] == [OPSET]
    assert [node.name for node in graph.graph.input] == ["image"]
    assert [node.name for node in graph.graph.output] == ["classes"]
    assert [d.dim_param or d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim] == ["batch", 3, "row", "col"]


def test_an_onnx_file_of_other_weights_fails_the_parity_check() -> None:
    with pytest.raises(PackageError, match="scores differ"):
        check_parity(export_onnx(scored(1), 3), scored(2), [images()])


def test_weights_come_back_bit_for_bit() -> None:
    one, other = scored(1), scored(2)
    load_weights(other.network, save_weights(one.network))
    assert np.array_equal(run_network(one, images())["classes"], run_network(other, images())["classes"])


def test_weights_of_another_network_are_refused() -> None:
    narrow = build_network({**SMALL, "decoder_channels": [8, 8, 4], "classes": 2})
    for weights in (save_weights(narrow), b"\x80\x04not tensors"):
        with pytest.raises(PackageError, match="do not fit"):
            load_weights(scored().network, weights)


def test_a_segmenter_is_one_network_with_named_planes() -> None:
    assert isinstance(build_network({**SMALL, "classes": 2}), Segmenter)


def test_details_of_a_pixel_are_added_to_what_the_network_says_of_it() -> None:
    torch.manual_seed(0)
    plain = {
        "family": "smp.Unet",
        "encoder": "tu-resnet10t",
        "in_channels": 3,
        "classes": 2,
        "encoder_depth": 3,
        "decoder_channels": [8, 8, 8],
    }
    network = build_network({**plain, "detail": 8}).eval()
    image = torch.randn(1, 3, 32, 32)
    changed = image.clone()
    changed[..., 5, 9] += 3
    detail = network.detail
    apart = network.network(image) + detail(image)
    assert torch.equal(network(image)["classes"], apart)
    moved = (detail(changed) - detail(image)).abs().amax(dim=(0, 1)) > 0
    assert moved.nonzero().tolist() == [[5, 9]]
    assert network.stride == build_network(plain).stride
    assert build_network(plain).detail is None
