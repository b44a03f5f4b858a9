"""Networks that make features of images, one file each."""

FAMILIES = ("vit",)
"""Modules of this folder that `geoseg.backbones.contract.build_backbone` builds by name."""
