"""DINOv3's transformers as backbones, for the weights that were learned from satellite images (SAT-493M); kept by timm.

Siméoni et al., "DINOv3" (arXiv 2508.10104, 2025). Places are told by turning queries and keys, so that there are no positions to load;
four storage tokens stand beside the class token, and keys have no bias. Weights go by three names: the authors' (`storage_tokens`,
`blocks.0.attn.qkv.bias` with a mask over the keys' part), those of Hugging Face's transformers (`embeddings.register_tokens`,
`layer.0.attention.q_proj.weight`), timm's own. Loading is strict: every tensor of the network has to be there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from geoseg.backbones import timm_features
from geoseg.backbones.foreign_weights import below, left_out
from geoseg.backbones.key_report import KeyReport
from geoseg.backbones.timm_features import COLOURS, TimmBackbone, load_named
from geoseg.errors import PackageError

SIZES = {
    "small": "vit_small_patch16_dinov3_qkvb",
    "base": "vit_base_patch16_dinov3_qkvb",
    "large": "vit_large_patch16_dinov3_qkvb",
    "7b": "vit_7b_patch16_dinov3",
}
"""Size → timm's name of it, with biases for queries and values where the authors' has them."""
_PREFIXES = ("module.", "model.", "teacher.backbone.", "backbone.")
_AUTHORS = (
    (r"^storage_tokens$", "reg_token"),
    (r"\.ls([12])\.gamma$", r".gamma_\1"),
    (r"\.mlp\.w1\.", ".mlp.fc1_g."),
    (r"\.mlp\.w2\.", ".mlp.fc1_x."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)
_HUGGING_FACE = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."),
    (r"^layer\.", "blocks."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".gamma_\1"),
    (r"\.mlp\.gate_proj\.", ".mlp.fc1_g."),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
)
_THREE = re.compile(r"^(blocks\.\d+)\.attention\.([qkv])_proj\.(weight|bias)$")
_ABSENT = (
    "rope",
    "mask_token",
    "embeddings.mask_token",
    "embeddings.rope",
    "local_cls_norm.",
    "cls_norm.",
    "head.",
    "dino_head.",
    "ibot_head.",
)


def build(roles: Sequence[str], *, size: str = "large", depth: int | None = None, learned: Sequence[str] = COLOURS) -> TimmBackbone:
    """The transformer for bands of these roles; `learned` are the roles of the published kernels, `depth` another number of blocks.

    PackageError for an unknown size.
    """
    words: dict[str, Any] = {} if depth is None else {"depth": depth}
    return timm_features.build(roles, model=_model(size), learned=learned, **words)


def load(backbone: TimmBackbone, state: Mapping[str, torch.Tensor], source: str) -> KeyReport:
    """Fill the backbone with published weights under any of the three names, kernels by role.

    PackageError where any tensor of the network is missing or of another shape.
    """
    named, wanted = timm_names(state), backbone.network.state_dict()
    if missing := [name for name in wanted if name not in named]:
        count = f"{len(wanted) - len(missing)} of the {len(wanted)} tensors of this network"
        raise PackageError(f"{source} has {count}, not {missing[0]}; expected all")
    stems = timm_features.stems(backbone.network)
    for name, tensor in wanted.items():
        if name not in stems and named[name].shape != tensor.shape:
            shapes = f"{name} of shape {tuple(named[name].shape)}, and this network {tuple(tensor.shape)}"
            raise PackageError(f"{source} has {shapes}; give weights of its size")
    return load_named(backbone, named, source)


def place(state: Mapping[str, torch.Tensor], have: Sequence[str], wanted: Sequence[str], **options: Any) -> dict[str, torch.Tensor]:
    """The state of a backbone for bands `have`, for bands `wanted`: kernels by role."""
    return timm_features.place(state, have, wanted, model=_model(options.get("size", "large")))


def timm_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors under timm's names; queries, keys and values as one, their biases apart and none for keys."""
    for prefix in _PREFIXES:
        state = below(state, (prefix,)) if all(name.startswith(prefix) for name in state) else state
    gated = any(".mlp.gate_proj." in name for name in state)
    names = (*_AUTHORS, *_HUGGING_FACE, (r"\.mlp\.up_proj\.", ".mlp.fc1_x." if gated else ".mlp.fc1."))
    found: dict[str, torch.Tensor] = {}
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in left_out(state, _ABSENT).items():
        own = name.removeprefix("model.") if name.startswith("model.layer.") else name  # as transformers 5 holds them
        for pattern, theirs in names:
            own = re.sub(pattern, theirs, own)
        if (part := _THREE.match(own)) is not None:
            if part[3] == "weight":
                parts.setdefault(f"{part[1]}.attn.qkv.weight", {})[part[2]] = tensor
            elif part[2] != "k":
                found[f"{part[1]}.attn.{part[2]}_bias"] = tensor
        elif own.endswith(".attn.qkv.bias"):
            query, _, value = tensor.chunk(3)  # the keys' is masked
            found[own.replace("qkv.bias", "q_bias")], found[own.replace("qkv.bias", "v_bias")] = query, value
        elif not own.endswith(".bias_mask"):
            found[own] = tensor
    return found | {name: torch.cat([three[which] for which in "qkv"]) for name, three in parts.items() if len(three) == 3}


def _model(size: str) -> str:
    if size not in SIZES:
        raise PackageError(f"there is no transformer of DINOv3 of size {size!r} here; known are {', '.join(SIZES)}")
    return SIZES[size]
