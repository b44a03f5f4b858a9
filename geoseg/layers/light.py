"""How slopes are lit in a scene: what a terrain correction takes from it, once for all of its windows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import SceneError
from geoseg.layers.masks import mask_roles, scene_reasons
from geoseg.preprocess.optical import physical_values
from geoseg.preprocess.prepare import Preparation
from geoseg.preprocess.quality import Reason
from geoseg.preprocess.terrain_correction import ILLUMINATION, FittedCorrection, fit_c
from geoseg.raster import Raster
from geoseg.scene import Scene, sample_scene

_BRIGHTEST = 2.0
"""Reflectance beyond this is no ground, but a number that means no data."""


class Light(NamedTuple):
    """A scene's terrain correction, and what the user should know of it."""

    correction: FittedCorrection | None
    """None where the preparation asks for none, or the provider made it already."""
    warnings: tuple[str, ...] = ()


def fit_light(scene: Scene, preparation: Preparation) -> Light:
    """The terrain correction of a preparation, fitted to a sample of the scene: clear ground that its quality layers let pass.

    A scene whose reflectance is known to be corrected is not corrected again, with a warning. SceneError where the scene has no
    terrain, or nothing says where the sun stood.
    """
    asked = preparation.terrain_correction
    if asked is None:
        return Light(None)
    roles = preparation.corrected_roles
    done = {scene.layer(role).band.terrain_corrected for role in roles}
    if True in done:
        if len(done) > 1:
            raise SceneError(f"some bands of {scene.source} are corrected for terrain and others are not; give bands of one product")
        return Light(None, (f"the provider of {scene.source} corrected it for terrain already: the model's own correction is left out.",))
    if scene.sun is None or ILLUMINATION not in scene.roles:
        raise SceneError(_what_is_missing(scene))
    sample = sample_scene(scene, (*roles, ILLUMINATION, *mask_roles(scene)))
    clear = scene_reasons(sample, scene) == Reason.OBSERVED
    flat = float(np.float32(np.cos(np.radians(scene.sun.zenith_deg))))
    c = {role: _fit_band(sample, role, clear, asked.min_illumination) for role in roles}
    warnings = []
    if None in done:
        warnings.append(
            f"nothing says whether {scene.source} is corrected for terrain already, as Sen2Cor does where it has a terrain model; the "
            "model's correction is made: if it is not needed, sunlit slopes come out too dark."
        )
    if not np.isfinite(list(c.values())).any():
        warnings.append("no band grows brighter where the sun shines more directly, so the terrain correction changes nothing.")
    return Light(FittedCorrection(flat, c, asked.min_illumination), tuple(warnings))


def _fit_band(sample: Raster, role: str, clear: NDArray[np.bool_], min_illumination: float) -> float:
    plane, light = sample.index(role), sample.index(ILLUMINATION)
    with np.errstate(all="ignore"):  # what is not valid may overflow
        reflectance = physical_values(sample.values[plane], sample.bands[plane])
        seen = clear & sample.valid[plane] & sample.valid[light] & (np.abs(reflectance) < _BRIGHTEST)
    return fit_c(reflectance[seen], sample.values[light][seen], min_illumination)


def _what_is_missing(scene: Scene) -> str:
    wanted = "the model corrects reflectance for the slope of the ground"
    if scene.sun is None:
        return (
            f"{wanted}, but nothing says where the sun stood over {scene.source}; give the product with its metadata, or write it into the "
            "file: gdal_edit.py -mo MEAN_SUN_ZENITH_ANGLE=… -mo MEAN_SUN_AZIMUTH_ANGLE=… FILE"
        )
    return f"{wanted}, but {scene.source} has no terrain; name a terrain model with --dem FILE"
