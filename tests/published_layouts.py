"""States of published networks in their own layout, and what the original networks make of a fixed image.

`published_layouts.json` holds, for each case, the names and shapes of the original's tensors and numbers drawn from its features. It was
made by running this file where the packages named in `made_with` could be imported:

    python tests/published_layouts.py CASE…

The tensors themselves are made from their names, the same everywhere, so that the file stays small and holds no weights of anyone.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import re
import sys
import types
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geoseg.backbones.contract import build_backbone
from geoseg.backbones.published import Published, published_models

FILE = Path(__file__).with_suffix(".json")
_DRAWN = 24
"""Numbers kept of each level of features."""


def filled(shapes: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
    """Tensors of these shapes, each drawn from a generator that its name seeds; scales of norms lie around 1."""
    state = {}
    for name, shape in shapes.items():
        drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape)).astype(np.float32)
        scale = 1.0 / np.sqrt(max(1.0, float(np.prod(tuple(shape)[1:])))) if len(shape) > 1 else 0.2
        one = 1.0 if len(shape) == 1 and name.endswith("weight") else 0.0
        state[name] = torch.from_numpy(one + np.float32(scale) * drawn)
    return state


def image(*shape: int) -> torch.Tensor:
    """The image of this shape that all networks are shown."""
    return torch.from_numpy(np.random.RandomState(1).standard_normal(shape).astype(np.float32))


def drawn(features: torch.Tensor) -> torch.Tensor:
    """A few numbers out of features, evenly spaced in memory."""
    flat = features.detach().contiguous().flatten()
    return flat[torch.linspace(0, len(flat) - 1, min(_DRAWN, len(flat))).long()]


@functools.cache
def reference(case: str) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """The state of a case in its original layout, and the drawn numbers of each level of its features."""
    held = json.loads(FILE.read_text(encoding="utf-8"))[case]
    return filled(held["shapes"]), [torch.tensor(level) for level in held["features"]]


def shapes_of(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's floating tensors."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items() if tensor.is_floating_point()}


def fill(network: torch.nn.Module, *, computed: tuple[str, ...] = ("pos_emb", "attn_bias")) -> dict[str, torch.Tensor]:
    """Fill a network with tensors made from their names, but for those that it has `computed`; its state afterwards."""
    state = {name: tensor for name, tensor in filled(shapes_of(network)).items() if not any(part in name for part in computed)}
    network.load_state_dict(state, strict=False)
    network.eval()
    return {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}


def layout_of(network: torch.nn.Module) -> set[str]:
    """The names of a network's tensors without the numbers of its blocks: the same for all its sizes."""
    return {re.sub(r"\.\d+\.", ".#.", name) for name in network.state_dict()}


def row_layout(name: str) -> tuple[Published, set[str]]:
    """A row of the table, and the layout of the network of its size."""
    model = published_models()[name]
    with torch.device("meta"):
        network = build_backbone({"family": model.family, **model.options}, model.roles)
    return model, layout_of(network)


# ---------------------------------------------------------------- making the file

Made = tuple[torch.nn.Module, list[torch.Tensor]]


def _only_files_of(package: str, *parents: str) -> None:
    """Let modules below these packages be imported without what the packages themselves import, such as data sets."""
    if package not in sys.modules:
        found = importlib.util.find_spec(package)
        assert found is not None
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = list(found.submodule_search_locations or ())
    for parent in parents:
        module = types.ModuleType(f"{package}.{parent}")
        module.__path__ = [str(Path(sys.modules[package].__path__[0], *parent.split(".")))]
        sys.modules.setdefault(module.__name__, module)


def _prithvi(frames: int, coords: bool, rows: int, cols: int, patch: int = 16) -> Made:
    _only_files_of("terratorch", "models", "models.backbones")
    made = importlib.import_module("terratorch.models.backbones.prithvi_mae").PrithviMAE(
        num_frames=frames, in_chans=6, embed_dim=192, depth=2, num_heads=3, decoder_embed_dim=48, decoder_depth=1, decoder_num_heads=3,
        patch_size=(1, patch, patch), coords_encoding=["time", "location"] if coords else [], coords_scale_learn=coords,
    )  # fmt: skip
    fill(made)
    series = image(1, 6, frames, rows, cols)
    days = torch.tensor([[[2020.0, 30.0 * date] for date in range(frames)]]) if coords else None
    places = torch.tensor([[46.1, 14.5]]) if coords else None
    features = made.encoder.forward_features(series, days, places)
    return made, made.encoder.prepare_features_for_image_model(features) if rows == cols else [level[:, 1:] for level in features]


def _terramind(kinds: Mapping[str, int], edge: int, *, gated: bool) -> Made:
    _only_files_of("terratorch", "models", "models.backbones", "models.backbones.terramind", "models.backbones.terramind.model")
    layers = importlib.import_module("terratorch.models.backbones.terramind.model.tm_utils")
    network = importlib.import_module("terratorch.models.backbones.terramind.model.terramind_vit").TerraMindViT(
        modalities=list(kinds), dim=192, encoder_depth=2, num_heads=3, qkv_bias=not gated, proj_bias=not gated, mlp_bias=not gated,
        norm_layer=functools.partial(layers.LayerNorm, eps=1e-6, bias=False), gated_mlp=gated,
        act_layer=torch.nn.SiLU if gated else torch.nn.GELU,
    )  # fmt: skip
    fill(network)
    for name, buffer in network.named_buffers():
        if name.endswith("bias"):
            buffer.zero_()
    bands = image(1, sum(kinds.values()), edge, edge).split(list(kinds.values()), dim=1)
    return network, network(dict(zip(kinds, bands, strict=True)))


def _satmae() -> Made:
    """With a checkout of SatMAE on the path, whose blocks took an argument that timm dropped since, and whose numpy had a `float`."""
    vision = importlib.import_module("timm.models.vision_transformer")
    block = vision.Block
    vision.Block = lambda *given, qk_scale=None, **words: block(*given, **words)
    setattr(np, "float", float)  # noqa: B010
    network = importlib.import_module("models_mae_group_channels").MaskedAutoencoderGroupChannelViT(
        img_size=96, patch_size=8, in_chans=10, embed_dim=384, depth=2, num_heads=6, decoder_embed_dim=192, decoder_depth=1,
        decoder_num_heads=3, norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    vision.Block = block
    fill(network, computed=())
    tokens, _, restore = network.forward_encoder(image(1, 10, 96, 96), 0.0)  # shuffled, which the blocks do not notice
    tokens = tokens[:, 1:].gather(1, restore[..., None].expand(-1, -1, tokens.shape[-1]))
    return network, [tokens.reshape(1, 3, 144, 384).mean(dim=1)]


_CLAY_BANDS = (0.493, 0.56, 0.665, 0.842)
"""Blue, green, red and near infrared."""


def _clay(version: str, edge: int) -> Made:
    names = ("models", "models.backbones", f"models.backbones.clay_{version}")
    _only_files_of("terratorch", *names)
    sizes = {"patch_size": 8, "dim": 192, "depth": 2, "heads": 3, "dim_head": 64, "mlp_ratio": 4}
    if version == "v1":
        network = importlib.import_module("terratorch.models.backbones.clay_v1.modules").EmbeddingEncoder(img_size=edge, **sizes)
    else:
        network = importlib.import_module("terratorch.models.backbones.clay_v15.model").Encoder(mask_ratio=0.0, shuffle=False, **sizes)
    torch.set_float32_matmul_precision("highest")  # which importing one of them lowers
    whole = torch.nn.ModuleDict(
        {"model": torch.nn.ModuleDict({"encoder": network, "proj": torch.nn.Linear(192, 1024)})}
    )  # as Lightning has it
    fill(whole)
    cube = {
        "pixels": image(1, 4, edge, edge), "waves": torch.tensor(_CLAY_BANDS), "gsd": torch.tensor(10.0),
        "time": image(1, 8)[:, :4], "latlon": image(1, 8)[:, 4:],
    }  # fmt: skip
    made = network(cube)
    return whole, [(made[-1] if version == "v1" else made[0])[:, 1:]]


def _hivit() -> Made:
    """With `models_hivit.py` and `models_hivit_mae.py` of SARATR-X as one module on the path."""
    network = importlib.import_module("models_hivit").HiViTMaskedAutoencoder(
        embed_dim=512, depths=[2, 2, 2], num_heads=8, stem_mlp_ratio=3.0, mlp_ratio=4.0, decoder_embed_dim=64, decoder_depth=1,
        decoder_num_heads=2, hifeat=True, rpe=False, norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    fill(network, computed=())
    fine, middle, coarse = network.forward_features(image(1, 1, 224, 224).expand(-1, 3, -1, -1), return_hifeat=True)
    levels = [level.reshape(1, 14, 14, edge, edge, -1).permute(0, 5, 1, 3, 2, 4) for level, edge in ((fine, 4), (middle, 2))]
    return network, [*levels, coarse.transpose(1, 2)]


def _olmoearth(patch: int) -> Made:
    package = "olmoearth_pretrain_minimal.olmoearth_pretrain_v1"
    kinds, months = ["sentinel2_l2a", "sentinel1"], torch.tensor([[[15, 2, 2021]]])  # day, month from 0, year
    whole = (
        importlib.import_module(f"{package}.olmoearth_pretrain_v1").OlmoEarthPretrain_v1("nano", "v1", supported_modality_names=kinds).model
    )
    fill(whole, computed=("month_embed", "_buffer"))
    cubes = {"sentinel2_l2a": image(1, 12, 24, 24), "sentinel1": image(1, 2, 24, 24)}
    words: dict[str, Any] = {"timestamps": months}
    for kind, cube in cubes.items():
        words[kind] = cube.permute(0, 2, 3, 1)[:, :, :, None]  # (batch, row, col, date, band)
        words[f"{kind}_mask"] = torch.zeros(1, 24, 24, 1, 3 if kind == "sentinel2_l2a" else 1)
    sample = importlib.import_module(f"{package}.utils.datatypes").MaskedOlmoEarthSample(**words)
    made = whole.encoder(sample, patch_size=patch, input_res=10, fast_pass=True)["tokens_and_masks"]
    groups = torch.cat([made.sentinel2_l2a[:, :, :, 0], made.sentinel1[:, :, :, 0]], dim=-2)  # (batch, row, col, group, width)
    return whole, [groups.mean(dim=-2).flatten(1, 2)]


CASES: dict[str, tuple[str, Callable[[], Made]]] = {
    "clay-1": ("terratorch 1.2.13", lambda: _clay("v1", 64)),
    "clay-1.5": ("terratorch 1.2.13", lambda: _clay("v15", 64)),
    "hivit": ("github.com/waterdisappear/SARATR-X, by its fork lucianchauvin/SARATR-X at 1055154", _hivit),
    "olmoearth": ("olmoearth-pretrain-minimal 0.1.5", lambda: _olmoearth(8)),
    "olmoearth-fine": ("olmoearth-pretrain-minimal 0.1.5", lambda: _olmoearth(4)),
    "satmae": ("github.com/sustainlab-group/SatMAE at b182634, with timm 1.0.31", _satmae),
    "terramind": ("terratorch 1.2.13", lambda: _terramind({"S2L2A": 12}, 224, gated=False)),
    "terramind-all": ("terratorch 1.2.13", lambda: _terramind({"S1GRD": 2, "DEM": 1, "S2L2A": 12}, 64, gated=True)),
    "prithvi": ("terratorch 1.2.13", lambda: _prithvi(1, False, 224, 224)),
    "prithvi-wide": ("terratorch 1.2.13", lambda: _prithvi(1, False, 64, 96)),
    "prithvi-tl": ("terratorch 1.2.13", lambda: _prithvi(3, True, 48, 48)),
}


def make(cases: Sequence[str]) -> None:
    """Write these cases into the file."""
    held: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for case in cases or CASES:
        made_with, run = CASES[case]
        with torch.no_grad():
            network, levels = run()
        features = [[round(float(number), 6) for number in drawn(level)] for level in levels]
        held[case] = {"made_with": made_with, "shapes": shapes_of(network), "features": features}
    lines = ",\n".join(f" {json.dumps(case)}: {json.dumps(held[case])}" for case in sorted(held))
    FILE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    make(sys.argv[1:])
