"""Maps as a static catalogue that pystac reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pystac = pytest.importorskip("pystac")

SCENE = ("--sensor", "generic", "--model", "model")


def test_pystac_finds_every_map_and_its_files(place: Path, geoseg) -> None:
    for folder in ("maps/east", "maps/west"):
        assert geoseg("predict", "scene.tif", *SCENE, "-o", folder).code == 0
    (place / "maps" / "other.json").write_text('{"type": "FeatureCollection"}')
    before = (place / "maps/east/scene.json").read_bytes()
    ran = geoseg("stac", "maps", "--title", "Two maps", "--licence", "CC-BY-4.0")
    assert (ran.code, Path(ran.out.strip())) == (0, Path("maps/collection.json"))
    assert "stands in several folders" in ran.err
    collection = pystac.Collection.from_file("maps/collection.json")
    items = list(collection.get_items())
    assert (collection.title, collection.license, len(items)) == ("Two maps", "CC-BY-4.0", 2)
    for item in items:
        assert all(Path(asset.get_absolute_href()).is_file() for asset in item.assets.values())
    assert collection.extent.spatial.bboxes[0] == items[0].bbox
    (asset,) = [asset for name, asset in items[0].assets.items() if name == "classes"]
    assert collection.summaries.to_dict()["classification:classes"] == asset.extra_fields["classification:classes"]
    assert (place / "maps/east/scene.json").read_bytes() == before
    again = json.loads((place / "maps/collection.json").read_text())
    assert geoseg("stac", "maps", "--title", "Two maps", "--licence", "CC-BY-4.0").code == 0
    assert json.loads((place / "maps/collection.json").read_text()) == again, "the collection does not list itself"


@pytest.mark.parametrize(("folder", "says"), [("nowhere", "no such folder"), ("model", "holds no STAC Item of geoseg's")])
def test_a_folder_without_maps_is_refused(place: Path, geoseg, folder: str, says: str) -> None:
    ran = geoseg("stac", folder)
    assert (ran.code, says in ran.sentence) == (2, True)
    assert not (place / folder / "collection.json").exists()
