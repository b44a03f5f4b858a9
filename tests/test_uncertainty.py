"""Layers that say how unsure a map is: their laws, and oracles from the scores that are written beside them."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import packages
import pytest
import rasterio
from command_line import refusal
from map_files import read
from networks import layered_package
from scene_files import write

from geoseg import __version__
from geoseg.mapping.bands import _key, map_band
from geoseg.mapping.make_map import make_map
from geoseg.mapping.network import open_network
from geoseg.mapping.plan import MapOptions, plan_map
from geoseg.mapping.rasters import Parts, made_here
from geoseg.mapping.rows import finished_strips
from geoseg.mapping.uncertainty import entropy, margin
from geoseg.mapping.windows import area_of
from geoseg.models.package import ModelPackage
from geoseg.scenes.open_scene import open_scene

VALUES = np.random.default_rng(5).normal(0, 1, (1, 150, 140)).astype(np.float32)
VALUES[:, 30:40, 50:90] = -9999
ALL = ("entropy", "margin", "disagreement")
HALF_A_STEP = 0.5 / 250 + 1e-4


@pytest.fixture
def scene(tmp_path):
    return open_scene(write(tmp_path / "scene.tif", VALUES, names=["red"], nodata=-9999), sensor="generic")


def layer(made, name):
    """(row, col), not a number where nothing is told."""
    with rasterio.open(made.files[name]) as file:
        values = file.read(1, masked=True)
        return (values * file.scales[0]).filled(np.nan)


def mapped(scene, package, out, **options):
    return make_map(scene, package, out, options=MapOptions(picture=False, polygons=False, **options))


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_equal_scores_are_unsure_and_a_single_score_is_sure(classes):
    alike, one = np.full((classes, 2, 3), 1 / classes, np.float32), np.zeros((classes, 2, 3), np.float32)
    one[-1] = 1
    np.testing.assert_allclose([entropy(alike), margin(alike)], [np.ones((2, 3)), np.zeros((2, 3))], atol=1e-6)
    np.testing.assert_allclose([entropy(one), margin(one)], [np.zeros((2, 3)), np.ones((2, 3))], atol=1e-6)


def test_scores_that_are_all_zero_or_of_one_class_have_an_answer_too():
    nothing, single = np.zeros((3, 1, 1), np.float32), np.ones((1, 1, 1), np.float32)
    assert (entropy(nothing).item(), margin(nothing).item()) == (pytest.approx(1), pytest.approx(0))
    assert (entropy(single).item(), margin(single).item()) == (0, 1)


def test_entropy_and_margin_are_those_of_the_scores_beside_them(tmp_path, scene):
    made = mapped(scene, layered_package(tmp_path / "model"), tmp_path / "out", scores=True, uncertainty=ALL)
    scores = read(made.files["classes_scores"]) / 250
    seen = VALUES[0] != -9999
    shares = scores / np.maximum(scores.sum(axis=0), 0.01)
    logs = np.log(np.where(shares > 0, shares, 1))
    expected = -(shares * logs).sum(axis=0) / np.log(3)
    ordered = np.sort(shares, axis=0)
    np.testing.assert_allclose(layer(made, "classes_entropy")[seen], expected[seen], atol=0.02)
    np.testing.assert_allclose(layer(made, "classes_margin")[seen], (ordered[-1] - ordered[-2])[seen], atol=0.01)
    for name in ALL:
        np.testing.assert_array_equal(np.isnan(layer(made, f"classes_{name}")), ~seen)


def test_disagreement_is_the_spread_between_tiles_by_brute_force(tmp_path, scene):
    package = layered_package(tmp_path / "model", tile=64, overlap=32)
    made = mapped(scene, package, tmp_path / "out", uncertainty=("disagreement",))
    plan = plan_map(scene, package, MapOptions())
    runtime, tiles = open_network(plan), plan.tiles
    image = np.zeros((1, 256, 256), np.float32)
    image[:, :150, :140] = np.where(VALUES == -9999, 0, VALUES)
    mean, squares = np.zeros((3, 256, 256)), np.zeros((3, 256, 256))
    for row, top in enumerate(tiles.row_origins):
        for col, left in enumerate(tiles.col_origins):
            here = np.s_[:, top : top + 64, left : left + 64]
            scores = runtime(np.ascontiguousarray(image[here][np.newaxis]))["classes"][0].astype(float)
            weight = np.outer(tiles.row_weights(row), tiles.col_weights(col))
            mean[here] += weight * scores
            squares[here] += weight * scores**2
    spread = np.sqrt(np.maximum((squares - mean**2).sum(axis=0), 0) / 2)[:150, :140]
    seen = VALUES[0] != -9999
    np.testing.assert_allclose(layer(made, "classes_disagreement")[seen], spread[seen], atol=HALF_A_STEP + 5e-4)
    assert spread[seen].max() > 0.03


def test_a_single_tile_has_nothing_to_disagree_with(tmp_path, scene):
    package = layered_package(tmp_path / "model", tile=160, overlap=0)
    made = mapped(scene, package, tmp_path / "out", uncertainty=ALL)
    assert np.nanmax(layer(made, "classes_disagreement")) == 0
    assert np.nanmax(layer(made, "classes_entropy")) > 0.3


def test_members_that_are_the_same_agree_and_others_spread_as_their_scores_do(tmp_path, scene):
    first, other = (layered_package(tmp_path / f"model{seed}", seed=seed, tile=160, overlap=0) for seed in (0, 1))
    each = [mapped(scene, one, tmp_path / f"out{number}", scores=True) for number, one in enumerate((first, other))]
    scores = np.stack([read(one.files["classes_scores"]) / 250 for one in each])
    spread = np.sqrt(scores.var(axis=0).sum(axis=0) / 2)
    both = mapped(scene, first, tmp_path / "both", uncertainty=("members", "disagreement"), ensemble=(str(other.path),))
    seen = VALUES[0] != -9999
    np.testing.assert_allclose(layer(both, "classes_members")[seen], spread[seen], atol=0.01)
    assert np.nanmax(layer(both, "classes_disagreement")) == 0
    same = mapped(scene, first, tmp_path / "same", uncertainty=("members",), ensemble=(str(first.path),))
    assert np.nanmax(layer(same, "classes_members")) == 0


def test_turned_images_are_members_too(tmp_path, scene):
    turned = mapped(scene, layered_package(tmp_path / "model"), tmp_path / "turned", uncertainty=("members",), tta="flips")
    assert np.nanmax(layer(turned, "classes_members")) > 0.05
    pixel = packages.per_pixel_package(tmp_path / "pixel", ["red"], [[1], [-1]])
    assert np.nanmax(layer(mapped(scene, pixel, tmp_path / "same", uncertainty=("members",), tta="d4"), "classes_members")) == 0


def test_strips_made_alone_have_the_same_bits(tmp_path, scene):
    package = layered_package(tmp_path / "model", tile=32, overlap=16)
    plan = plan_map(scene, package, MapOptions(uncertainty=("disagreement", "members"), tta="flips", picture=False))
    runtime, area = open_network(plan), area_of(plan)
    planes = {one.strip.number: {k: v.copy() for k, v in one.scores.items()} for one in finished_strips(plan, runtime, area)}
    assert len(planes) > 5
    for strip in plan.tiles.strips[2:5]:
        for one in finished_strips(plan, runtime, area, [strip]):
            assert set(one.scores) == {"classes", "classes squares of tiles", "classes squares of members"}
            for name, values in one.scores.items():
                np.testing.assert_array_equal(values, planes[strip.number][name])


def test_a_map_that_was_stopped_gets_the_layers_that_it_would_have_had(tmp_path, scene):
    package = layered_package(tmp_path / "model", tile=32, overlap=16)
    options = MapOptions(picture=False, polygons=False, uncertainty=ALL)
    whole = make_map(scene, package, tmp_path / "whole", options=options)

    def stop(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_map(scene, package, tmp_path / "out", options=options, progress=stop)
    made = make_map(scene, package, tmp_path / "out", options=options, resume=True)
    for name in ALL:
        assert made.files[f"classes_{name}"].read_bytes() == whole.files[f"classes_{name}"].read_bytes()


def test_a_worker_makes_the_same_parts_from_plain_data(tmp_path, scene):
    package = layered_package(tmp_path / "model", tile=32, overlap=16)
    plan = plan_map(scene, package, MapOptions(uncertainty=ALL))
    task = {"source": scene.source, "opened_with": {"sensor": "generic"}, "options": json.loads(json.dumps(asdict(plan.options)))}
    task |= {"geoseg": __version__, "model": str(package.path), "checksum": package.checksum, "mask": None, "key": _key(plan, None)}
    there = map_band(task | {"parts": str(tmp_path / "there"), "strips": [2, 3]}, lambda said: None)
    here = list(made_here(open_network(plan), area_of(plan))(Parts(tmp_path / "here", plan), plan.tiles.strips[2:4]))
    assert [one["sums"] for one in there["strips"]] == [one.sums for one in here]
    assert "classes_disagreement" in " ".join(here[0].sums)


def test_entropy_is_of_the_tempered_scores_that_are_told(tmp_path, scene):
    plain = packages.constant_package(tmp_path / "model", ["red"], 0, 2)
    hot = plain.outputs[0].model_copy(update={"temperature": 2.0, "calibrated": True})
    tempered = ModelPackage(**{**dict(plain), "outputs": (hot,)})
    made = mapped(scene, tempered, tmp_path / "out", uncertainty=("margin",))
    share = np.sqrt(0.75) / (np.sqrt(0.75) + np.sqrt(0.25))
    assert np.nanmax(np.abs(layer(made, "classes_margin") - (2 * share - 1))) < HALF_A_STEP


def test_the_item_the_style_and_the_project_tell_of_the_layers(geoseg, place):
    ran = geoseg("predict", "scene.tif", "--model", "model", "--uncertainty", "margin,entropy", "-o", "out", "--no-polygons")
    assert ran.code == 0, ran.err
    assets = json.loads((place / "out/scene.json").read_text())["assets"]
    assert "uncalibrated" in assets["classes_entropy"]["description"]
    assert (place / "out/scene_margin.qml").is_file()
    assert "scene_entropy.tif" in (place / "out/scene.qgz").read_bytes().decode("utf-8", "ignore")
    assert "classes_disagreement" not in assets
    again = geoseg("predict", "--again", "out/scene.json", "-o", "again")
    assert (again.code, again.err.strip()) == (0, "the same as the first map, byte for byte")


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--uncertainty", "entropie"], "expected some of entropy, margin"), (["--uncertainty", "members"], "name more than one --model")],
)
def test_what_cannot_be_told_is_refused(geoseg, place, words, said):
    assert said in refusal(geoseg, place, "predict", "scene.tif", "--model", "model", "-o", "out", *words)
