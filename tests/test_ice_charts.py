"""Ice charts to labels: codes, merging before the dominant share, water and masks; files as ice services give them out."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from command_line import UTM
from shapely.geometry import box

from geoseg.data.ice_charts import ICE_LEGENDS, NO_LABEL, Egg, convert_chart, convert_polygon, parse_polygon_codes, tenths
from geoseg.errors import LabelError

NONE = (-9, -9, -9)


def egg(total: int, *partials: tuple[int, int, int], water: bool = False) -> Egg:
    return Egg(total, (*partials, *[NONE] * (3 - len(partials))), water)


@pytest.mark.parametrize(
    ("code", "expected"),
    [(0, 0), (1, 0), (2, 0), (55, 0), (10, 1), (90, 9), (91, 10), (92, 10), (46, 5), (81, 9), (13, 2), (99, None), (-9, None)],
)
def test_concentrations_are_tenths(code: int, expected: int | None) -> None:
    assert tenths(code) == expected


@pytest.mark.parametrize(
    ("codes", "expected"),
    [((81, 82), 1), ((83, 84, 85), 2), ((87, 88, 89), 3), ((86, 91, 93), 4), ((95, 96, 97), 5), ((98, 99), NO_LABEL)],
)
def test_stages_follow_the_table(codes: tuple[int, ...], expected: int) -> None:
    assert {convert_polygon(egg(90, (90, code, 4)))[1] for code in codes} == {expected}


@pytest.mark.parametrize(("code", "expected"), [(2, 1), (3, 2), (4, 3), (5, 4), (6, 5), (7, 5), (9, 6), (10, 6), (99, NO_LABEL)])
def test_floe_sizes_follow_the_table(code: int, expected: int) -> None:
    assert convert_polygon(egg(90, (90, 95, code)))[2] == expected


def test_equal_classes_are_merged_before_the_share_is_taken() -> None:
    assert convert_polygon(egg(90, (40, 83, 4), (30, 84, 4), (20, 95, 4)))[1] == 2  # 7 of 9 tenths are young ice
    assert convert_polygon(egg(90, (40, 83, 4), (30, 87, 4), (20, 95, 4)))[1] == NO_LABEL  # none alone reaches 0.65


def test_all_three_partials_of_one_class_count() -> None:
    assert convert_polygon(egg(91, (30, 83, 3), (30, 84, 3), (40, 85, 3))) == (10, 2, 2)


def test_the_share_of_sixty_five_per_cent_itself_is_enough() -> None:
    assert convert_polygon(egg(92, (70, 95, 5), (30, 81, 3)))[1:] == (5, 4)
    assert convert_polygon(egg(92, (60, 95, 5), (40, 81, 3)))[1:] == (NO_LABEL, NO_LABEL)


def test_an_empty_partial_concentration_takes_the_total() -> None:
    assert convert_polygon(egg(80, (-9, 93, 6))) == (8, 4, 5)


def test_water_is_zero_in_all_charts() -> None:
    assert convert_polygon(egg(90, (90, 95, 6), water=True)) == (0, 0, 0)
    assert convert_polygon(egg(1)) == (0, 0, 0)


@pytest.mark.parametrize("form", [8, 1, 21, 22])
def test_fast_ice_and_its_like_have_no_floe_size(form: int) -> None:
    assert convert_polygon(egg(92, (80, 95, 6), (20, 95, form))) == (10, 5, NO_LABEL)


def test_codes_of_the_published_files_become_charts() -> None:
    head = "id;CT;CA;SA;FA;CB;SB;FB;CC;SC;FC;CN;CD;CF;POLY_TYPE"
    eggs = parse_polygon_codes([head, "3;92;70;93;06;30;83;04;-9;-9;-9;98;-9;-9;I", "5;01;-9;-9;-9;-9;-9;-9;-9;-9;-9;-9;-9;-9;W"])
    polygons = np.array([[3.0, 5.0], [7.0, np.nan]])
    charts = convert_chart(polygons, eggs)
    assert {name: chart.tolist() for name, chart in charts.items()} == {
        "concentration": [[10, 0], [255, 255]],
        "stage": [[4, 0], [255, 255]],
        "floe": [[5, 0], [255, 255]],
    }
    with pytest.raises(LabelError, match="expected id;CT;CA"):
        parse_polygon_codes(["3;92;70"])


def write_chart(path: Path, *, left: float = UTM.c, **columns) -> Path:
    """Ice over the left half of the scene, water over the right, in a polar CRS as ice services have them."""
    shapes = [box(left, UTM.f - 600, left + 300, UTM.f), box(left + 300, UTM.f - 600, left + 600, UTM.f)]
    fields = {"POLY_TYPE": ["I", "W"], "CT": ["92", "01"], "CA": ["80", ""], "SA": ["95", ""], "FA": ["06", ""]} | columns
    geopandas.GeoDataFrame(fields, geometry=shapes, crs="EPSG:32632").to_crs("EPSG:3413").to_file(path)
    return path


def test_a_chart_becomes_three_label_rasters_on_the_scenes_grid(place: Path, geoseg) -> None:
    write_chart(place / "chart.shp")
    ran = geoseg("icechart", "chart.shp", "--like", "scene.tif", "-o", "labels")
    assert ran.code == 0
    for name, code in (("concentration", 10), ("stage", 5), ("floe", 5)):
        with rasterio.open(f"labels/chart_{name}.tif") as file:
            labels = file.read(1)
            assert (labels[5:-5, 2:29] == code).all()
            assert (labels[5:-5, 31:-2] == 0).all()
            assert file.crs.to_epsg() == 32632
    assert len(ICE_LEGENDS["concentration"]) == 11


@pytest.mark.parametrize(
    ("chart", "said"), [({"left": UTM.c + 90_000}, "does not touch the scene"), ({"POLY_TYPE": ["L", "L"]}, "no polygon of ice or water")]
)
def test_a_chart_that_cannot_be_used_is_one_sentence(place: Path, geoseg, chart, said: str) -> None:
    write_chart(place / "chart.shp", **chart)
    ran = geoseg("icechart", "chart.shp", "--like", "scene.tif", "-o", "labels")
    assert ran.code == 2
    assert said in ran.sentence
    assert not (place / "labels").exists()


def test_polygons_that_are_no_ice_chart_are_one_sentence(place: Path, geoseg) -> None:
    geopandas.GeoDataFrame({"name": ["a"]}, geometry=[box(0, 0, 1, 1)], crs="EPSG:4326").to_file(place / "areas.gpkg")
    ran = geoseg("icechart", "areas.gpkg", "--like", "scene.tif", "-o", "labels")
    assert ran.code == 2
    assert "expected SIGRID-3's CT, CA, SA, FA" in ran.sentence
