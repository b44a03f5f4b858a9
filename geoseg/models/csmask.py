"""The cloud and shadow networks of DLR's ukis-csmask as model packages.

Published in the PyPI package `ukis-csmask` 1.0.0 (Apache-2.0): U-Nets with an EfficientNet-B4 encoder over six bands in reflectance,
trained on Sentinel-2 and Landsat, best at pixels of about 30 m. Wieland, Li & Martinis, "Multi-sensor cloud and cloud shadow
segmentation with a convolutional neural network", Remote Sensing of Environment 230 (2019). The weights stay as they are; their graph
gets our names and a softmax at its end.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from geoseg.errors import PackageError, require
from geoseg.legend import Legend, LegendClass
from geoseg.models.description import ModelDescription, Output
from geoseg.models.package import ModelPackage, write_package
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation

Level = Literal["l1c", "l2a"]
"""Top of atmosphere, or surface reflectance."""

_LEGEND = Legend(
    (
        LegendClass(0, 0, "clear", "#ffffff", background=True),
        LegendClass(1, 1, "cloud", "#ee8866"),
        LegendClass(2, 2, "cloud shadow", "#aa3377"),
    )
)
_SENSORS = {
    "l1c": ("sentinel-2-l1c", "landsat-tm-c2-l1", "landsat-etm-c2-l1", "landsat-oli-c2-l1"),
    "l2a": ("sentinel-2-l2a", "landsat-tm-c2-l2", "landsat-etm-c2-l2", "landsat-oli-c2-l2"),
}
_PUBLISHED = datetime(2024, 6, 1, tzinfo=UTC)
_TILE, _OVERLAP, _STRIDE = 256, 64, 32
_PIXEL_M, _RANGE_M = 30.0, (20.0, 60.0)


def package_csmask(folder: str | Path, out: str | Path, *, level: Level) -> ModelPackage:
    """Write the six-band network for `level` from the files of `ukis_csmask` in `folder` to a new package at `out`.

    PackageError where the files are not there; needs onnx (extra `train`).
    """
    source = Path(folder) / f"model_6b_{level}"
    try:
        told = json.loads(source.with_suffix(".json").read_text(encoding="utf-8"))["data"]["dataset_statistics"]
        graph = source.with_suffix(".onnx").read_bytes()
    except (OSError, ValueError, KeyError) as error:
        raise PackageError(f"{source}.json and .onnx cannot be read ({error}); give the folder ukis_csmask of that package") from error
    means, deviations = told["img"]
    roles = tuple(told["band_names"])
    preparation = Preparation(
        bands=tuple(BandNeed(role=role, unit="reflectance") for role in roles),
        channels=tuple(Channel(name=role, mean=mean, std=std) for role, mean, std in zip(roles, means, deviations, strict=True)),
    )
    description = ModelDescription(
        name=f"csmask-{level}",
        title=f"Cloud and cloud shadow, six bands, {'top of atmosphere' if level == 'l1c' else 'surface'} (ukis-csmask 1.0.0)",
        description="Clear ground, cloud and cloud shadow from blue to 2.2 µm. Bright snow and sand may be called cloud.",
        licence="Apache-2.0",
        preparation=preparation,
        outputs=(Output.from_legend("classes", _LEGEND),),
        pixel_size_m=_PIXEL_M,
        pixel_size_range_m=_RANGE_M,
        tile=_TILE,
        overlap=_OVERLAP,
        stride=_STRIDE,
        sensors=_SENSORS[level],
        labels="drawn by people (DLR), as the authors report",
        attribution="Cloud mask: ukis-csmask, German Aerospace Center (DLR)",
        created=_PUBLISHED,
    )
    return write_package(out, description, onnx=_scored(graph))


def _scored(graph: bytes) -> bytes:
    """The graph with input `image`, its logits through a softmax to the output `classes`."""
    onnx: Any = require("onnx", extra="train")
    model = onnx.load_from_string(graph)
    given, logits = model.graph.input[0].name, model.graph.output[0].name
    for node in model.graph.node:
        for at, name in enumerate(node.input):
            if name == given:
                node.input[at] = "image"
    model.graph.input[0].name = "image"
    model.graph.node.append(onnx.helper.make_node("Softmax", [logits], ["classes"], axis=1))
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("classes", onnx.TensorProto.FLOAT, ["batch", len(_LEGEND), _TILE, _TILE]))
    out: bytes = model.SerializeToString()
    return out
