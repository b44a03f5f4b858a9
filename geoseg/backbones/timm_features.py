"""Networks of timm as backbones: convolutional ones and pyramids of transformers stage by stage, plain transformers at four depths.

timm (Wightman, https://github.com/huggingface/pytorch-image-models) keeps the networks; their names there are the names here. What
torchgeo publishes as ResNet, ViT or Swin of timm has the same layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from geoseg.backbones.kernels import place_kernels, stretch_kernels, stretch_positions
from geoseg.backbones.key_report import KeyReport, load_matching
from geoseg.backbones.vit import quarters
from geoseg.errors import PackageError, require

COLOURS = ("red", "green", "blue")
_SIZES: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
"""What lets a network of timm take images of any size, by its kind."""
_PREFIXES = ("module.", "model.", "encoder.", "backbone.")
_ENDS = ("head.", "head_dist.", "fc.", "classifier.", "fc_norm.", "last_linear.")
"""Layers that say a class, which no backbone has."""
_BY_ORDER = "_conv_stem.weight"
"""A tensor of the port EfficientNet-PyTorch, whose names differ from timm's while their order is the same."""


class TimmStages(nn.Module):
    """A network of timm that halves the image step by step: the features at the end of each stage.

    One that stays as fine as it begins, as transformers with turned positions do, gives four depths of it, normed.
    """

    network: Any

    def __init__(self, roles: Sequence[str], network: Any, learned: Sequence[str]) -> None:
        super().__init__()
        self.roles, self.learned, self.network = tuple(roles), tuple(learned), network
        known = require("timm.models", extra="train").FeatureInfo(network.feature_info, tuple(range(len(network.feature_info))))
        count = len(network.feature_info)
        self._plain = len(set(known.reduction())) == 1
        self._stages = [block - 1 for block in quarters(count)] if self._plain else list(range(count))
        self.channels = tuple(known.channels()[stage] for stage in self._stages)
        self.strides = tuple(known.reduction()[stage] for stage in self._stages)
        network.prune_intermediate_layers(self._stages, prune_norm=not self._plain, prune_head=True)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(batch, channels[i], row / strides[i], col / strides[i]) for each stage."""
        words = {"indices": self._stages, "intermediates_only": True, **({"norm": True} if self._plain else {})}
        return list(self.network.forward_intermediates(image, **words))


class TimmVit(nn.Module):
    """A plain transformer of timm: patches at four depths, each normed, with positions stretched to any image in whole patches.

    Positions are stretched without smoothing, since that way also runs as ONNX; at the size that was learned both are the same.
    """

    network: Any

    def __init__(self, roles: Sequence[str], network: Any, learned: Sequence[str]) -> None:
        super().__init__()
        self.roles, self.learned, self.network = tuple(roles), tuple(learned), network
        self.taken = quarters(len(network.blocks))
        """Blocks after which tokens are taken, counted from 1."""
        network.fc_norm = nn.Identity()  # it norms the mean of all patches, for which nobody asks here
        self.channels = (int(network.embed_dim),) * len(self.taken)
        self.strides = (int(network.patch_embed.patch_size[0]),) * len(self.taken)

    @property
    def kept(self) -> int:
        """How many of the positions belong to tokens that are no patches."""
        return 0 if self.network.no_embed_class else int(self.network.num_prefix_tokens)

    def tokens(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, token, width) before the first block: class token and registers where it has them, then each patch, with their places."""
        network = self.network
        planes = network.patch_embed(image)  # (batch, row, col, width)
        patches = planes.flatten(1, 2)
        extra = [token.expand(patches.shape[0], -1, -1) for token in (network.cls_token, network.reg_token) if token is not None]
        if network.pos_embed is None:
            tokens = torch.cat([*extra, patches], dim=1)
        else:
            places = stretch_positions(network.pos_embed, (planes.shape[1], planes.shape[2]), kept=self.kept)
            if network.no_embed_class:
                tokens = torch.cat([*extra, patches + places], dim=1)
            else:
                tokens = torch.cat([*extra, patches], dim=1) + places
        normed: torch.Tensor = network.norm_pre(tokens)
        return normed

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(batch, width, row, col) of patches after each of the blocks `taken`, normed."""
        tokens, levels = self.tokens(image), []
        rows, cols = image.shape[-2] // self.strides[0], image.shape[-1] // self.strides[0]
        for number, block in enumerate(self.network.blocks, 1):
            tokens = block(tokens)
            if number in self.taken:
                patches = self.network.norm(tokens)[:, self.network.num_prefix_tokens :]
                levels.append(patches.transpose(1, 2).reshape(-1, self.channels[0], rows, cols))
        return levels


TimmBackbone = TimmStages | TimmVit


def build(roles: Sequence[str], *, model: str, learned: Sequence[str] = COLOURS, **options: Any) -> TimmBackbone:
    """timm's network of this name for bands of these roles; `learned` are the roles of the published kernels, in their order.

    `options` are timm's own of that network, such as `img_size`. PackageError for a name that timm does not know, or a network
    that gives no features.
    """
    timm = require("timm", extra="train")
    if not timm.is_model(model):
        near = timm.list_models(f"*{model.partition('_')[0]}*")[:5]
        raise PackageError(f"timm has no network {model!r}; " + (f"it has {', '.join(near)} …" if near else "timm.list_models() shows all"))
    network = _create(model, len(roles), options)
    if not hasattr(network, "forward_intermediates"):
        raise PackageError(f"timm's {model} gives no features of its stages; choose another network")
    if isinstance(network, require("timm.models.vision_transformer", extra="train").VisionTransformer):
        return TimmVit(roles, network, learned)
    return TimmStages(roles, network, learned)


def load(backbone: TimmBackbone, state: Mapping[str, torch.Tensor], source: str) -> KeyReport:
    """Fill the backbone with the state of timm's network, with or without its head, or of EfficientNet-PyTorch's of the same size.

    The kernels that see the image go to the bands by role, bit for bit; positions are stretched to the network's grid, and patches to its
    size, bicubic. PackageError where the kernels are for other bands, or fewer than nine in ten tensors fit.
    """
    named = (
        _by_order(backbone, dict(state), source)
        if _BY_ORDER in state
        else {_without_prefix(name): tensor for name, tensor in state.items()}
    )
    return load_named(backbone, {name: tensor for name, tensor in named.items() if not name.startswith(_ENDS)}, source)


def load_named(backbone: TimmBackbone, named: Mapping[str, torch.Tensor], source: str) -> KeyReport:
    """`load` of a state under timm's own names."""
    wanted = backbone.network.state_dict()
    made, reshaped = dict(named), []
    for stem in stems(backbone.network):
        if stem not in made:
            raise PackageError(f"{source} has no {stem}, the kernels that see the image; give the weights of this network")
        made[stem] = place_kernels(made[stem], backbone.learned, backbone.roles)
        if isinstance(backbone, TimmVit):
            made[stem] = stretch_kernels(made[stem], backbone.strides[0])
        if made[stem].shape != named[stem].shape or backbone.roles != backbone.learned:
            reshaped.append(stem)
    if isinstance(backbone, TimmVit) and "pos_embed" in made and "pos_embed" in wanted:
        edge = round((wanted["pos_embed"].shape[1] - backbone.kept) ** 0.5)
        made["pos_embed"] = stretch_positions(made["pos_embed"].float(), (edge, edge), kept=backbone.kept)
        reshaped += ["pos_embed"] if made["pos_embed"].shape != named["pos_embed"].shape else []
    return load_matching(backbone.network, made, source, reshaped=reshaped)


def place(state: Mapping[str, torch.Tensor], have: Sequence[str], wanted: Sequence[str], **options: Any) -> dict[str, torch.Tensor]:
    """The state of a backbone for bands `have`, for bands `wanted`: kernels by role."""
    made = dict(state)
    with torch.device("meta"):
        network = _create(options["model"], len(have), {})
    for stem in stems(network):
        name = f"network.{stem}"
        made[name] = place_kernels(made[name], have, wanted)
    return made


def stems(network: Any) -> list[str]:
    """Names of the kernels that see the image."""
    first = network.pretrained_cfg.get("first_conv")
    if not first:
        raise PackageError(f"timm does not say which layer of {network.pretrained_cfg.get('architecture')} sees the image; choose another")
    return [f"{name}.weight" for name in ((first,) if isinstance(first, str) else first)]


def _create(model: str, channels: int, options: Mapping[str, Any]) -> Any:
    """timm's network without its head, for images of any size where it can be had so."""
    timm = require("timm", extra="train")
    for more in _SIZES[:-1]:
        try:
            return timm.create_model(model, pretrained=False, num_classes=0, in_chans=channels, **more, **options)
        except TypeError:  # it does not know this word
            continue
    return timm.create_model(model, pretrained=False, num_classes=0, in_chans=channels, **options)


def _without_prefix(name: str) -> str:
    while (cut := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)) is not None:
        name = name.removeprefix(cut)
    return name


def _by_order(backbone: TimmBackbone, state: dict[str, torch.Tensor], source: str) -> dict[str, torch.Tensor]:
    """The state under timm's names, which stand in the same order; PackageError where any shape on the way differs."""
    model = backbone.network.pretrained_cfg["architecture"]
    classes = next(reversed(state.values())).numel()
    with torch.device("meta"):
        whole = require("timm", extra="train").create_model(model, pretrained=False, num_classes=classes).state_dict()
    shapes = [tensor.shape for tensor in state.values()]
    if shapes != [tensor.shape for tensor in whole.values()]:
        raise PackageError(
            f"{source} has the names of EfficientNet-PyTorch, but not the sizes of {model}; give the weights of this network"
        )
    return dict(zip(whole, state.values(), strict=True))
