"""DINOv2's published weights for CrossEarth-SAR: whatever names they go by, with other bands, patches and many experts.

Two layouts are in use: that of the authors (`blocks.0.attn.qkv.weight`) and that of Hugging Face's transformers
(`encoder.layer.0.attention.attention.query.weight`), each perhaps below a name such as `backbone.`. CrossEarth's release has neither: it
holds only what was trained beside the transformer (`backbone.reins.*`, `decode_head.*`), and is refused with what it lacks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch.nn import functional

from geoseg.backbones.crossearth_sar import CrossEarthSar
from geoseg.backbones.kernels import stretch_positions
from geoseg.backbones.key_report import KeyReport, load_matching
from geoseg.errors import PackageError

_PREFIXES = ("module.", "model.", "teacher.", "student.", "backbone.", "dinov2.")
_HUGGING_FACE = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.mask_token$", "mask_token"),
    (r"^embeddings\.register_tokens$", "register_tokens"),
    (r"^layernorm\.", "norm."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
)
_ATTENTION = re.compile(r"^(blocks\.\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)$")
_FORWARD = re.compile(r"^(blocks\.\d+\.mlp)\.(fc[12]\.(?:weight|bias))$")
_ROUTER = ".mlp.router."
_IGNORED = ("mask_token",)
_REINS = "reins."


def load_dinov2(network: CrossEarthSar, state: Mapping[str, torch.Tensor], source: str) -> KeyReport:
    """Fill the network with dense weights, each expert with its block's feed-forward; the routers stay as they are.

    Kernels for red, green and blue become kernels for the network's channels: their sum, shared out, which sees one radar band as if it
    stood three times; kernels and positions are stretched to the network's patches and grid, bicubic. PackageError where fewer than nine
    in ten tensors fit.
    """
    named = author_names(state)
    if any(_REINS in name for name in named) and "patch_embed.proj.weight" not in named:
        raise PackageError(
            f"{source} holds what was trained beside DINOv2 (reins, decoder), not DINOv2 itself; give DINOv2's own weights "
            "(geoseg.backbones.crossearth loads both together)"
        )
    made: dict[str, torch.Tensor] = {}
    reshaped = []
    wanted = network.state_dict()
    for name, tensor in named.items():
        if name in _IGNORED:
            continue
        if name.startswith("patch_embed.proj."):
            own = f"embed.{name.rpartition('.')[2]}"
            made[own] = _kernels(tensor, wanted[own]) if name.endswith("weight") and tensor.ndim == 4 else tensor
            reshaped += [own] if made[own].shape != tensor.shape else []
        elif name == "pos_embed":
            made[name] = _positions(tensor, wanted[name])
            reshaped += [name] if made[name].shape != tensor.shape else []
        elif (dense := _FORWARD.match(name)) is not None:
            made |= {f"{dense[1]}.experts.{number}.{dense[2]}": tensor for number in range(network.experts)}
        else:
            made[name] = tensor
    return load_matching(network, made, source, new=[name for name in wanted if _ROUTER in name], reshaped=reshaped)


def author_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors under the names of DINOv2's authors, without what stands before them."""
    found: dict[str, torch.Tensor] = {}
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in state.items():
        own = _without_prefix(name)
        for pattern, theirs in _HUGGING_FACE:
            own = re.sub(pattern, theirs, own)
        if (attention := _ATTENTION.match(own)) is not None:
            parts.setdefault(f"{attention[1]}.attn.qkv.{attention[3]}", {})[attention[2]] = tensor
        else:
            found[own] = tensor
    for name, three in parts.items():
        if len(three) == 3:
            found[name] = torch.cat([three["query"], three["key"], three["value"]])
    return found


def _without_prefix(name: str) -> str:
    while (cut := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)) is not None:
        name = name.removeprefix(cut)
    return name


def _kernels(kernels: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """(width, channel, patch, patch) as `wanted` is, from those for three colours."""
    if kernels.shape[1] != wanted.shape[1]:
        kernels = kernels.sum(dim=1, keepdim=True).expand(-1, wanted.shape[1], -1, -1) / wanted.shape[1]
    if kernels.shape[-2:] == wanted.shape[-2:]:
        return kernels.contiguous()
    return functional.interpolate(kernels.float(), size=tuple(wanted.shape[-2:]), mode="bicubic", align_corners=False)


def _positions(positions: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    edge = round((wanted.shape[1] - 1) ** 0.5)
    return stretch_positions(positions.float(), (edge, edge))
