"""CrossEarth-SAR: DINOv2's transformer whose every feed-forward is a choice among experts, made by tokens and the physics of speckle.

CrossEarth-SAR (arXiv 2603.12008, 2026) on DINOv2 (Oquab et al., TMLR 2024). In each block a router sees a token and the image's three
descriptors (`physics.py`) and takes `top` of `experts` feed-forwards; the experts all begin as that block's dense one ("upcycling").
Published: 6 experts, of which one is taken.

The weight of a chosen expert is either its share among those chosen (`gate="normalised"`, the paper's words and our default), or its
probability among all (`gate="probability"`, as Switch Transformers have it). With one expert taken, the normalised weight is always 1:
the network then begins as the dense one, exactly, but its errors give the router no gradient, which learns from the balance alone.
With probabilities errors teach the router, and the network does not begin as the dense one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from geoseg.backbones.kernels import stretch_positions
from geoseg.backbones.physics import NAMES, scaled
from geoseg.errors import PackageError, require

Gate = Literal["normalised", "probability"]
BALANCE = 0.005
"""Weight of the balance of experts in the loss, as published."""
_GRID = 37
"""Patches along an edge of DINOv2's positions: images of 518 pixels in patches of 14."""
_ROUNDING = 1e-6
"""Spread of shares and descriptors (0…1) that is none."""
_SCALE = 1e-5
"""At which each branch of a block begins (LayerScale)."""


@dataclass(frozen=True)
class Dinov2Size:
    """How large a transformer of DINOv2 is."""

    width: int
    depth: int
    heads: int


SIZES = {
    "tiny": Dinov2Size(192, 12, 3),
    "small": Dinov2Size(384, 12, 6),
    "base": Dinov2Size(768, 12, 12),
    "large": Dinov2Size(1024, 24, 16),
}
"""DINOv2's S, B and L; `tiny` is DeiT's, for processors without a GPU."""


@dataclass(frozen=True)
class Routing:
    """What a router chose in the last pass."""

    probabilities: torch.Tensor
    """(batch, token, expert), with gradient."""
    chosen: torch.Tensor
    """(batch, token, top) numbers of experts."""

    def shares(self) -> torch.Tensor:
        """(batch, expert) of all choices in an image; they sum to 1."""
        taken = functional.one_hot(self.chosen, self.probabilities.shape[-1]).to(self.probabilities.dtype)
        return taken.mean(dim=(1, 2))

    def balance(self) -> torch.Tensor:
        """n times the sum over experts of share and mean probability: 1 where all are alike, n where one has all."""
        count = self.probabilities.shape[-1]
        return count * (self.shares().mean(dim=0) * self.probabilities.mean(dim=(0, 1))).sum()


class FeedForward(nn.Module):
    """The two layers of a block, four times as wide in the middle."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(…, width)."""
        made: torch.Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return made


class SparseExperts(nn.Module):
    """Feed-forwards of which each token is sent to `top`; only those are computed."""

    def __init__(self, width: int, experts: int, top: int, gate: Gate) -> None:
        super().__init__()
        self.top, self.gate = top, gate
        self.router = nn.Linear(width + len(NAMES), experts)
        self.experts = nn.ModuleList(FeedForward(width) for _ in range(experts))
        self.routing: Routing | None = None
        """Of the last pass."""

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes along: not the last pass, whose gradients torch does not copy."""
        return self.__dict__ | {"routing": None}

    def forward(self, tokens: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """(batch, token, width) from tokens of that shape and the images' descriptors (batch, 3)."""
        tiled = scales[:, None].expand(-1, tokens.shape[1], -1)
        probabilities = self.router(torch.cat([tokens, tiled], dim=-1)).softmax(dim=-1)
        weights, chosen = probabilities.topk(self.top, dim=-1)
        if self.gate == "normalised":
            weights = weights / weights.sum(dim=-1, keepdim=True)
        self.routing = Routing(probabilities, chosen)
        if torch.onnx.is_in_onnx_export():
            return self._all(tokens, weights, chosen)
        flat, weights, chosen = tokens.flatten(0, 1), weights.flatten(0, 1), chosen.flatten(0, 1)
        made = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            which, place = (chosen == number).nonzero(as_tuple=True)
            if which.numel():
                made = made.index_add(0, which, (expert(flat[which]) * weights[which, place, None]).to(made.dtype))
        return made.view_as(tokens)

    def _all(self, tokens: torch.Tensor, weights: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """The same with every expert computed: a graph that is written down once cannot leave one out."""
        weighted = [expert(tokens) * (weights * (chosen == number)).sum(dim=-1, keepdim=True) for number, expert in enumerate(self.experts)]
        return torch.stack(weighted).sum(dim=0)


class ExpertBlock(nn.Module):
    """DINOv2's block, its feed-forward replaced."""

    def __init__(self, size: Dinov2Size, experts: int, top: int, gate: Gate) -> None:
        super().__init__()
        timm = require("timm.layers", extra="train")
        vision = require("timm.models.vision_transformer", extra="train")
        self.norm1, self.norm2 = nn.LayerNorm(size.width, eps=1e-6), nn.LayerNorm(size.width, eps=1e-6)
        self.attn = (timm if hasattr(timm, "Attention") else vision).Attention(size.width, num_heads=size.heads, qkv_bias=True)
        self.ls1, self.ls2 = (vision.LayerScale(size.width, init_values=_SCALE) for _ in range(2))
        self.mlp = SparseExperts(size.width, experts, top, gate)

    def forward(self, tokens: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """(batch, token, width)."""
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        made: torch.Tensor = tokens + self.ls2(self.mlp(self.norm2(tokens), scales))
        return made


class CrossEarthSar(nn.Module):
    """Tokens of images (batch, channel, row, col) in multiples of `patch` pixels, and of their descriptors."""

    def __init__(
        self,
        in_channels: int = 3,
        *,
        size: str = "small",
        patch: int = 14,
        depth: int | None = None,
        experts: int = 6,
        top: int = 1,
        gate: Gate = "normalised",
        grid: int = _GRID,
    ) -> None:
        """`size` is a name of `SIZES`, `depth` another number of blocks; positions are kept for `grid` x `grid` patches and stretched to
        what comes. PackageError for what cannot be built.
        """
        super().__init__()
        if size not in SIZES:
            raise PackageError(f"there is no transformer of size {size!r}; known are {', '.join(SIZES)}")
        if not 1 <= top <= experts:
            raise PackageError(f"{top} of {experts} experts for each token; give at least one, and no more than there are")
        if gate not in ("normalised", "probability"):
            raise PackageError(f"there is no gate {gate!r}; known are normalised, probability")
        sized = SIZES[size]
        sized = sized if depth is None else Dinov2Size(sized.width, depth, sized.heads)
        if sized.depth < 1 or in_channels < 1 or patch < 1:
            raise PackageError(f"{sized.depth} blocks, {in_channels} channels, patches of {patch} pixels; expected at least 1 of each")
        self.width, self.depth, self.patch, self.experts, self.top = sized.width, sized.depth, patch, experts, top
        self.embed = nn.Conv2d(in_channels, sized.width, kernel_size=patch, stride=patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, sized.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, sized.width))
        self.blocks = nn.ModuleList(ExpertBlock(sized, experts, top, gate) for _ in range(sized.depth))
        self.norm = nn.LayerNorm(sized.width, eps=1e-6)
        self.described: torch.Tensor | None = None
        """(batch, 3) raw descriptors of the last pass."""
        self.apply(_start_weights)
        if not self.cls_token.is_meta:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
            nn.init.normal_(self.cls_token, std=1e-6)
            for own in self.routers():
                clone_experts(own)

    def forward(self, image: torch.Tensor, descriptors: torch.Tensor) -> torch.Tensor:
        """(batch, 1 + token, width), the class token first, from images and their raw descriptors (batch, 3)."""
        tokens, scales = self.tokens(image), self.scales(descriptors)
        for block in self.blocks:
            tokens = block(tokens, scales)
        normed: torch.Tensor = self.norm(tokens)
        return normed

    def tokens(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 1 + token, width): the class token, then each patch by itself, with their places."""
        planes = self.embed(image)
        rows, cols = planes.shape[-2:]
        patches = planes.flatten(2).transpose(1, 2)
        whole = self.cls_token.expand(planes.shape[0], -1, -1)
        return torch.cat([whole, patches], dim=1) + stretch_positions(self.pos_embed, (rows, cols))

    def scales(self, descriptors: torch.Tensor) -> torch.Tensor:
        """(batch, 3) what the routers see of raw descriptors (batch, 3)."""
        self.described = descriptors.detach()
        return scaled(descriptors)

    def balance(self) -> torch.Tensor:
        """What is added to the loss after a pass: BALANCE where every router shares out evenly, BALANCE * experts where each has one
        favourite; the mean over the blocks.
        """
        return BALANCE * torch.stack([routing.balance() for routing in self.routings()]).mean()

    def routings(self) -> list[Routing]:
        """What each block's router chose in the last pass."""
        return [one.routing for one in self.routers() if one.routing is not None]

    def routers(self) -> list[SparseExperts]:
        """The experts of each block, in order."""
        return [module for module in self.modules() if isinstance(module, SparseExperts)]

    def utilisation(self) -> dict[str, float]:
        """Descriptor and expert → how the expert's share of an image's tokens goes with the descriptor over the images of the last pass.

        The coefficient of correlation, -1…1, mean over the blocks; nothing for fewer than three images.
        """
        if self.described is None or len(self.described) < 3:
            return {}
        shares = torch.stack([routing.shares() for routing in self.routings()]).mean(dim=0).T.detach()  # (expert, image)
        seen = torch.cat([scaled(self.described).T, shares])  # (descriptor and expert, image)
        seen = seen * (seen.std(dim=1, keepdim=True) > _ROUNDING)  # what is the same in all images goes with nothing
        together = torch.corrcoef(seen).nan_to_num()[: len(NAMES), len(NAMES) :]
        return {
            f"{name} and expert_{number}": float(together[row, number]) for row, name in enumerate(NAMES) for number in range(self.experts)
        }

    def active_parameters(self) -> int:
        """Numbers that one token meets: all but the experts that are not chosen."""
        expert = sum(parameter.numel() for parameter in self.routers()[0].experts[0].parameters())
        return sum(parameter.numel() for parameter in self.parameters()) - self.depth * (self.experts - self.top) * expert


def clone_experts(experts: SparseExperts) -> None:
    """All experts become the first: what upcycling starts from."""
    first = experts.experts[0].state_dict()
    for other in experts.experts[1:]:
        other.load_state_dict(first)


def _start_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear) and not module.weight.is_meta:
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
