"""What a scene is, as plain data for people and programs."""

from __future__ import annotations

from math import hypot
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    pass

from geoseg.preprocess.optical import physical_values
from geoseg.scene import Layer, Scene, crs_name, thinned

_DESCRIBED_PIXELS = 256 * 256


def describe_scene(scene: Scene) -> dict[str, Any]:
    """What `geoseg info` prints, as plain data: bands and why, CRS, grid, valid share and ranges of a thinned-out sample, warnings."""
    geobox = scene.geobox()
    bounds = geobox.extent.boundingbox
    return {
        "name": scene.name,
        "source": scene.source,
        "sensor": scene.sensor.name,
        "sensor_title": scene.sensor.title,
        "time": scene.time.isoformat() if scene.time else None,
        "product_id": scene.product_id,
        "processing_baseline": scene.processing_baseline,
        "orbit_pass": scene.orbit_pass,
        "crs": crs_name(geobox.crs),
        "grid": {
            "rows": geobox.shape[0],
            "cols": geobox.shape[1],
            "transform": list(geobox.affine)[:6],
            "bounds": [bounds.left, bounds.bottom, bounds.right, bounds.top],
        },
        "bands": [_describe_layer(scene, layer) for layer in scene.layers],
        "attribution": scene.attribution,
        "warnings": list(scene.warnings),
    }


def _describe_layer(scene: Scene, layer: Layer) -> dict[str, Any]:
    sample = thinned(scene, [layer.band.role], _DESCRIBED_PIXELS)
    values = sample.values[sample.valid].astype(np.float64)
    a, b, _, d, e, *_ = scene.geobox([layer.band.role]).affine
    scaled = values if layer.band.unit == "class" else physical_values(values, layer.band)
    percentiles = [float(value) for value in np.percentile(scaled, [0, 1, 50, 99, 100])] if values.size else None
    return {
        "role": layer.band.role,
        "name": layer.band.name,
        "because": layer.because,
        "file": layer.path,
        "index": layer.index,
        "resolution": [hypot(b, e), hypot(a, d)],
        "dtype": str(sample.values.dtype),
        "scale": layer.band.scale,
        "offset": layer.band.offset,
        "encoding": layer.band.encoding,
        "unit": layer.band.unit,
        "convention": layer.band.convention,
        "noise_removed": layer.band.noise_removed,
        "despeckled": layer.band.despeckled,
        "nodata": "nan" if layer.band.nodata is not None and np.isnan(layer.band.nodata) else layer.band.nodata,
        "valid_share": float(sample.valid.mean()),
        "stored_range": [float(values.min()), float(values.max())] if values.size else None,
        "percentiles_0_1_50_99_100": percentiles,
    }
