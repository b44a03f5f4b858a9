"""Networks that make features of images, one file each."""

FAMILIES = (
    "clay",
    "croma",
    "dinov2_vit",
    "dinov3",
    "dofa",
    "galileo",
    "hivit",
    "olmoearth",
    "panopticon",
    "presto",
    "prithvi",
    "satmae",
    "scale_mae",
    "terramind",
    "timm_features",
    "vit",
)
"""Modules of this folder that `geoseg.backbones.contract.build_backbone` builds by name."""
