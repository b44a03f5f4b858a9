"""An encoder's files as a network that makes features."""

from __future__ import annotations

from torch import nn

from geoseg.backbones.contract import build_backbone
from geoseg.errors import PackageError, require
from geoseg.models.encoders import Encoder


def open_backbone(encoder: Encoder) -> nn.Module:
    """The `geoseg.backbones.contract.Backbone` of an encoder with its weights, for the bands of `encoder.roles`, ready to be run.

    PackageError where weights and description do not go together.
    """
    backbone = build_backbone(encoder.architecture, encoder.roles)
    try:
        backbone.load_state_dict(require("safetensors.torch", extra="train").load(encoder.weights))
    except (KeyError, RuntimeError) as error:
        raise PackageError(
            f"the weights in {encoder.path} do not fit its description ({str(error).splitlines()[0]}); make or fetch it again"
        ) from error
    return backbone.eval()
