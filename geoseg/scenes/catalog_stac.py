"""A data set of the catalogue as a STAC Collection."""

from __future__ import annotations

from typing import Any

from geoseg.scenes.catalog import Dataset

_WHOLE_WORLD = [-180.0, -90.0, 180.0, 90.0]


def stac_collection(name: str, dataset: Dataset) -> dict[str, Any]:
    """The data set as a STAC 1.1 Collection, ready for JSON.

    The catalogue does not know where and when the scenes were taken, so the extent is the whole world and open in time. The
    classes of the labels are in the summaries, as the classification extension spells them.
    """
    summaries: dict[str, Any] = {}
    if dataset.gsd_m is not None:
        summaries["gsd"] = [dataset.gsd_m]
    if dataset.classes:
        summaries["classification:classes"] = [
            {"value": one.code, "name": one.name, "color_hint": one.colour.lstrip("#").upper()} for one in dataset.classes
        ]
    extensions = ["https://stac-extensions.github.io/classification/v2.0.0/schema.json"] if dataset.classes else []
    if dataset.citation:
        extensions.append("https://stac-extensions.github.io/scientific/v1.0.0/schema.json")
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": extensions,
        "id": name,
        **({"title": dataset.title} if dataset.title else {}),
        "description": dataset.description,
        "license": dataset.licence,
        "providers": [provider.model_dump(exclude_none=True, mode="json") for provider in dataset.providers],
        "extent": {"spatial": {"bbox": [_WHOLE_WORLD]}, "temporal": {"interval": [[None, None]]}},
        "summaries": summaries,
        **({"sci:citation": dataset.citation} if dataset.citation else {}),
        "links": [],
    }
