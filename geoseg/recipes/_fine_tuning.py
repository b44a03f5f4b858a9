"""How much of an encoder that knows something learns on: nothing, its last blocks, little matrices beside it, or all, the first slowest.

LoRA (Hu et al., ICLR 2022), DoRA (Liu et al., ICML 2024) and (IA)³ (Liu et al., NeurIPS 2022) are peft's. After training they are merged
into the weights that they stand beside, so that a package is one like any other. Learning rates that fall towards the image are those of
BEiT and MAE (Bao et al., ICLR 2022; He et al., CVPR 2022).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from torch import nn

from geoseg.errors import InputError, PackageError, require
from geoseg.models.segmenter import Segmenter
from geoseg.recipes._settings import Adapter, Settings

_STACKS = ("blocks", "layers", "layer", "stages", "encoder")
"""What lists of an encoder's blocks are called."""
_NUMBERED = re.compile(r"(.*\.)?(?:layer|stage|block)_?\d+")
"""Blocks that are attributes of their own, as `layer1` to `layer4` of ResNets."""
_BEHIND = re.compile(r"norm(?!_pre)|fc_norm|encoder_norm|layernorm|ln_post|neck|head|conv_head")
"""What stands beside a list of blocks and comes after them; all else that is in none comes before them."""
_EMBEDDING = "embed"
"""What embeds patches may have blocks of its own, which are none of the encoder's."""
_ATTENTION = ("attn", "attention", "qkv", "to_out")


@dataclass(frozen=True)
class Block:
    """One of the parts that an encoder goes through in turn."""

    name: str
    number: int
    """Counted from 1."""
    depth: int
    """Blocks of its stack; an encoder may have several, one for each sensor."""
    beside: str
    """Start of the names of what stands beside its stack."""

    def holds(self, parameter: str) -> bool:
        """Whether a parameter of this name is the block's own."""
        return parameter.startswith(f"{self.name}.")


def check_adapter(settings: Settings) -> None:
    """InputError where an adapter has nothing to stand beside, or is told to leave alone what it leaves alone anyway."""
    if settings.adapter is None:
        return
    if settings.freeze:
        raise InputError("adapter and freeze were given; an adapter leaves the encoder's own weights as they are: leave freeze out")
    if settings.pretrained is None and settings.encoder_weights is None and settings.start is None:
        raise InputError(
            "adapter: learns beside an encoder that knows something, and none was given; name one with pretrained, encoder_weights or start"
        )


def freeze(network: Segmenter, how: bool | int) -> str:
    """Leave the encoder's weights as they are, or with a number those of so many first blocks and of what stands before them.

    Gives a sentence that says so. What is left does not follow the images' statistics either. PackageError for a network without
    encoder or blocks, or with fewer.
    """
    encoder = encoder_of(network, "freeze")
    if how is True:
        encoder.requires_grad_(False).eval()
        return "The encoder is left as it is."
    blocks = find_blocks(encoder, "freeze")
    depth = max(block.depth for block in blocks)
    if how > depth:
        raise PackageError(f"freeze: {how} blocks, and the encoder has {depth}; give fewer, or true for all of it")
    for name, parameter in encoder.named_parameters():
        block = next((block for block in blocks if block.holds(name)), None)
        if block.number <= how if block else not _is_behind(name, blocks):
            parameter.requires_grad_(False)
    for module in encoder.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()
    return f"The first {how} of {depth} blocks of the encoder, and what stands before them, are left as they are."


def add_adapter(network: Segmenter, wanted: Adapter) -> str:
    """Leave the encoder as it is but for an adapter beside its linear layers; gives a sentence that says what learns.

    PackageError for a network without an encoder, and for targets that it has not; MissingExtraError without peft.
    """
    peft = require("peft", extra="adapters")
    encoder = encoder_of(network, "adapter")
    targets = find_targets(encoder, wanted.targets)
    encoder.requires_grad_(False).eval()
    config = (
        peft.IA3Config(target_modules=targets, feedforward_modules=[])
        if wanted.method == "ia3"
        else peft.LoraConfig(r=wanted.rank, lora_alpha=wanted.alpha, target_modules=targets, use_dora=wanted.method == "dora")
    )
    peft.inject_adapter_in_model(config, encoder)
    learned = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
    rank = "" if wanted.method == "ia3" else f" of rank {wanted.rank}"
    return (
        f"The encoder is left as it is but for {wanted.method}{rank} beside {len(targets)} layers: {learned:,} numbers, which are merged "
        "into its weights."
    )


def merge_adapters(network: Segmenter) -> None:
    """Put what adapters have learned into the layers that they stand beside, under these layers' own names."""
    kind = require("peft.tuners.tuners_utils", extra="adapters").BaseTunerLayer
    for name, layer in list(network.named_modules()):
        if isinstance(layer, kind):
            layer.merge()
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, layer.get_base_layer())


def find_targets(encoder: nn.Module, wanted: tuple[str, ...] | None) -> list[str]:
    """Names of the linear layers that end in what is wanted, such as `attn.qkv`; None takes those of attention. PackageError for none."""
    # Torch's own attention takes its last layer's weights without calling it, so that nothing can stand beside that.
    own = {f"{name}.out_proj" for name, module in encoder.named_modules() if isinstance(module, nn.MultiheadAttention)}
    linear = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear) and name not in own]
    if wanted is None:
        found = [name for name in linear if any(word in name.lower() for word in _ATTENTION) and _EMBEDDING not in name]
        missing = "attention" if not found else ""
    else:
        found = [name for name in linear if any(f".{name}".endswith(f".{ending}") for ending in wanted)]
        missing = next((ending for ending in wanted if not any(f".{name}".endswith(f".{ending}") for name in linear)), "")
    if missing or not found:
        known = ", ".join(dict.fromkeys(".".join(name.split(".")[-2:]) for name in linear)) or "none"
        raise PackageError(f"adapter: the encoder has no linear layer of {missing or 'that name'}; it has {known}: name them as targets")
    return found


def parameter_groups(network: nn.Module, rate: float, layer_decay: float | None) -> list[dict[str, Any]]:
    """What learns, for an optimiser, each parameter in one group with its `lr` and its `share` of `rate`.

    None gives one group. Else block i of an encoder of n learns at `layer_decay` to the power of n + 1 - i, what stands before the blocks
    at the power of n + 1, and all else at the full rate. PackageError for a network without encoder or blocks.
    """
    learned = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    shares = dict.fromkeys((name for name, _ in learned), 1.0)
    if layer_decay is not None:
        start, encoder = _encoder_in(network, "layer_decay")
        blocks = find_blocks(encoder, "layer_decay")
        depth = max(block.depth for block in blocks)
        for name in shares:
            own = name.removeprefix(start)
            block = next((block for block in blocks if block.holds(own)), None)
            if block is not None:
                shares[name] = layer_decay ** (block.depth + 1 - block.number)
            elif own != name and not _is_behind(own, blocks):
                shares[name] = layer_decay ** (depth + 1)
    by_share = sorted(learned, key=lambda one: shares[one[0]])  # stable: the network's own order in each group
    return [
        {"params": [parameter for _, parameter in group], "lr": rate * share, "share": share}
        for share, group in groupby(by_share, key=lambda one: shares[one[0]])
    ]


def find_blocks(encoder: nn.Module, asked_by: str) -> list[Block]:
    """The blocks of an encoder, by the usual names of their lists; PackageError, naming the setting that asks, where there are none."""
    modules = dict(encoder.named_modules())
    lists = [
        name
        for name, module in modules.items()
        if name.rpartition(".")[2].strip("_") in _STACKS and isinstance(module, nn.ModuleList | nn.Sequential) and _EMBEDDING not in name
    ]
    stacks = [(_parent(name), [f"{name}.{child}" for child, _ in modules[name].named_children()]) for name in _outermost(lists)]
    if not stacks:
        numbered = _outermost([name for name in modules if _NUMBERED.fullmatch(name)])
        stacks = [(parent, list(group)) for parent, group in groupby(numbered, key=_parent)]
    blocks = [Block(name, number, len(stack), parent) for parent, stack in stacks for number, name in enumerate(stack, 1)]
    if not blocks:
        parts = ", ".join(name for name, _ in encoder.named_children())
        raise PackageError(f"{asked_by}: the encoder has no {', '.join(_STACKS)} to count; it has {parts}: leave {asked_by} out")
    return blocks


def encoder_of(network: Segmenter, asked_by: str) -> nn.Module:
    """The network's encoder; PackageError, naming the setting that asks, for a network without one."""
    return _encoder_in(network, asked_by)[1]


def _encoder_in(network: nn.Module, asked_by: str) -> tuple[str, nn.Module]:
    """With the start of its parameters' names."""
    for name, module in network.named_modules():
        if name.rpartition(".")[2] == "encoder":
            return f"{name}.", module
    raise PackageError(f"{asked_by}: this network has no encoder; leave {asked_by} out")


def _outermost(names: list[str]) -> list[str]:
    return [name for name in names if not any(name.startswith(f"{other}.") for other in names)]


def _parent(name: str) -> str:
    """The start of names of what stands beside a module."""
    return name[: name.rfind(".") + 1]


def _is_behind(parameter: str, blocks: list[Block]) -> bool:
    starts = {block.beside for block in blocks}
    return any(parameter.startswith(start) and _BEHIND.match(parameter, len(start)) for start in starts)
