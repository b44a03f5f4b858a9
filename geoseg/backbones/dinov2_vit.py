"""DINOv2's transformers as backbones: ViT-S, -B and -L in patches of 14, with or without registers, for any bands.

Oquab et al., TMLR 2024; registers: Darcet et al., ICLR 2024. timm keeps the network. Weights go by three names: the authors', those of
Hugging Face's transformers, timm's own; and an ONNX graph keeps transformers' names, but for the positions, which it holds as constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from geoseg.backbones import timm_features
from geoseg.backbones.dinov2 import author_names
from geoseg.backbones.key_report import KeyReport
from geoseg.backbones.timm_features import COLOURS, TimmVit, load_named
from geoseg.errors import PackageError

SIZES = ("small", "base", "large")
_GRID = 37
"""Patches along an edge of the published positions: images of 518 pixels in patches of 14."""
_REGISTERS = 4
_FOLDED = ("onnx::Concat", "onnx::Reshape")
"""How constants begin that ONNX's tracer made of the positions: the class token's, and the patches'."""


def build(
    roles: Sequence[str],
    *,
    size: str = "small",
    registers: bool = False,
    patch: int = 14,
    grid: int = _GRID,
    depth: int | None = None,
    learned: Sequence[str] = COLOURS,
) -> TimmVit:
    """The transformer for bands of these roles; `learned` are the roles of the published kernels, in their order.

    Positions are kept for `grid` x `grid` patches and stretched to what comes; `patch` other than 14 stretches the kernels, and `depth`
    is another number of blocks. PackageError for what cannot be built.
    """
    if size not in SIZES:
        raise PackageError(f"there is no transformer of DINOv2 of size {size!r} here; known are {', '.join(SIZES)}")
    words: dict[str, Any] = {"img_size": grid * patch, "patch_size": patch, **({} if depth is None else {"depth": depth})}
    built = timm_features.build(roles, model=_model(size, registers), learned=learned, **words)
    assert isinstance(built, TimmVit)
    return built


def load(backbone: TimmVit, state: Mapping[str, torch.Tensor], source: str) -> KeyReport:
    """Fill the backbone with published weights; kernels go to the bands by role, bit for bit.

    Positions and kernels are stretched to the network's grid and patches, bicubic; the class token's position stays as it is.
    PackageError where the kernels are for other bands, or fewer than nine in ten tensors fit.
    """
    named = author_names(state)
    named.pop("mask_token", None)
    if "pos_embed" not in named:
        named |= _folded_positions(named)
    if "register_tokens" in named:
        named["reg_token"] = named.pop("register_tokens")
        own = named["pos_embed"]  # timm adds the class token's position to it once and for all
        named["cls_token"], named["pos_embed"] = named["cls_token"] + own[:, :1], own[:, 1:]
    return load_named(backbone, {name: tensor for name, tensor in named.items() if not name.startswith("onnx::")}, source)


def place(state: Mapping[str, torch.Tensor], have: Sequence[str], wanted: Sequence[str], **options: Any) -> dict[str, torch.Tensor]:
    """The state of a backbone for bands `have`, for bands `wanted`: kernels by role."""
    model = _model(options.get("size", "small"), bool(options.get("registers")))
    return timm_features.place(state, have, wanted, model=model)


def _model(size: str, registers: bool) -> str:
    return f"vit_{size}_patch14_{f'reg{_REGISTERS}_' if registers else ''}dinov2"


def _folded_positions(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`pos_embed` from the two constants of an ONNX graph; nothing where there are none."""
    found = [tensor for name, tensor in state.items() if name.startswith(_FOLDED) and tensor.ndim == 3 and tensor.shape[0] == 1]
    parts = sorted(found, key=lambda tensor: tensor.shape[1])
    return {"pos_embed": torch.cat(parts, dim=1)} if len(parts) == 2 and parts[0].shape[1] == 1 else {}
