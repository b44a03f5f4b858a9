"""What a package takes over from the one, or the encoder, that its learning started from."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from geoseg.models.description import ModelDescription
from geoseg.models.encoders import EncoderDescription
from geoseg.models.package import ModelPackage

_NOT_SAID = "other"
"""The licence in the settings where nobody named one."""

DescriptionType = TypeVar("DescriptionType", ModelDescription, EncoderDescription)


def inherited(description: ModelDescription, package: ModelPackage) -> ModelDescription:
    """The new description with what stays true of the package it started from: where and on what that has learned, whom to name."""
    boxes = [box for box in (description.trained_bbox, package.trained_bbox) if box is not None]
    west, south, east, north = zip(*boxes, strict=True)
    days = [day for dates in (description.trained_dates, package.trained_dates) if dates is not None for day in dates]
    both = description.trained_dates is not None and package.trained_dates is not None
    said: dict[str, Any] = {
        "description": description.description or package.description,
        "licence": package.licence if description.licence == _NOT_SAID else description.licence,
        "restriction": description.restriction or package.restriction,
        "labels": f"{package.labels}; then {description.labels}" if package.labels else description.labels,
        "attribution": " ".join(dict.fromkeys(text for text in (package.attribution, description.attribution) if text)),
        "pixel_size_m": package.pixel_size_m,
        "pixel_size_range_m": package.pixel_size_range_m,
        "sensors": tuple(dict.fromkeys((*package.sensors, *description.sensors))),
        "trained_bbox": (min(west), min(south), max(east), max(north)),
        "trained_dates": (min(days), max(days)) if both else None,
        "training": {**description.training, "start": f"{package.name} {package.checksum}"},
    }
    return description.model_copy(update=said)


def with_terms_of(description: DescriptionType, encoder: EncoderDescription) -> DescriptionType:
    """The new description with whom the encoder asks to name and what its licence forbids; that licence, too, unless another was given.

    What was learned from weights under a licence that forbids something is under it as well, whatever else it is said to be under.
    """
    said = {"attribution": " ".join(dict.fromkeys(text for text in (description.attribution, encoder.attribution) if text))}
    if encoder.restriction:
        said["restriction"] = encoder.restriction
        said["licence"] = encoder.licence if description.licence == _NOT_SAID else description.licence
    return description.model_copy(update=said)


def with_held_out_before(features: str, package: ModelPackage, name: str) -> str:
    """Held-out ground as GeoJSON, with all that the package held out in its file `name`: nobody has learned from that since."""
    if name not in package.checksums:
        return features
    collection = json.loads(features)
    collection["features"] += json.loads(package.read(name))["features"]
    return json.dumps(collection)
