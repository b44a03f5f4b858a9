"""Embeddings of a scene: what a vector depends on, where it lies, that tiles do not show, and that the file opens as a scene."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from command_line import refusal
from numpy.typing import NDArray
from scene_files import write

pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("safetensors")

import torch
from safetensors.torch import save

from geoseg.backbones.contract import build_backbone
from geoseg.errors import InputError, PackageError
from geoseg.mapping import embed as embedding
from geoseg.mapping.embed import embed_scene
from geoseg.mapping.embed_plan import EmbedOptions, plan_embedding
from geoseg.models.encoder_network import open_backbone
from geoseg.models.encoders import Encoder, EncoderDescription, write_encoder
from geoseg.preprocess.optical import to_physical
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
from geoseg.runtimes.features import Features
from geoseg.scene import Scene, read_scene
from geoseg.scenes.open_scene import open_scene

pytestmark = pytest.mark.usefixtures("one_thread")

ROLES, PATCH = ("red", "nir"), 4
HEIGHT, WIDTH = 103, 90
"""No multiples of the patch."""
WORDS = ("--sensor", "sentinel-2-l2a", "--bands", "red,nir", "--scale", "0.0001")


def make_encoder(path: Path, *, alone: bool = False, depth: int = 1, restriction: str = "") -> Encoder:
    """A transformer with random weights; `alone`: each vector depends on its patch and on nothing else."""
    architecture: dict[str, Any] = {"size": "tiny", "patch": PATCH, "depth": depth}
    torch.manual_seed(0)
    backbone = build_backbone(architecture, ROLES)
    if alone:
        architecture["pixel_size_m"] = 1e-9  # all patches lie in one place
        with torch.no_grad():
            for block in backbone.blocks:  # type: ignore[union-attr]
                block.attn.proj.weight.zero_()
                block.attn.proj.bias.zero_()
    description = EncoderDescription(
        name="small-vit",
        title="A small transformer",
        licence="CC-BY-4.0",
        restriction=restriction,
        preparation=Preparation(
            bands=tuple(BandNeed(role=role, unit="reflectance") for role in ROLES),
            channels=tuple(Channel(name=role, mean=0.1, std=0.1) for role in ROLES),
        ),
        architecture=architecture,
        pixel_size_m=10,
        sensors=("sentinel-2-l2a",),
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return write_encoder(path, description, weights=save(backbone.state_dict()))


def write_scene(path: Path, *, seed: int = 0) -> Path:
    """Noise in two bands, of which nothing is known in the upper left."""
    values = np.random.default_rng(seed).integers(300, 3000, (2, HEIGHT, WIDTH)).astype(np.uint16)
    values[:, :21, :33] = 0
    return write(path, values, nodata=0)


def open_it(path: Path) -> Scene:
    return open_scene(path, sensor="sentinel-2-l2a", bands=list(ROLES), scale=1e-4)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embed")
    make_encoder(folder / "alone", alone=True)
    make_encoder(folder / "wide", depth=2)
    write_scene(folder / "scene.tif")
    return folder


def vectors(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as file:
        return file.read()


def whole_image(scene: Scene, encoder: Encoder) -> NDArray[np.float32]:
    """(width, row, col) of a plain pass of the whole scene, filled up to whole patches."""
    physical = to_physical(read_scene(scene, ROLES, scene.geobox()))
    image = np.where(physical.valid_everywhere, (physical.values - np.float32(0.1)) / np.float32(0.1), 0)
    rows, cols = -(-HEIGHT // PATCH) * PATCH, -(-WIDTH // PATCH) * PATCH
    filled = np.zeros((1, len(ROLES), rows, cols), np.float32)
    filled[0, :, :HEIGHT, :WIDTH] = image
    with torch.inference_mode():
        made: NDArray[np.float32] = open_backbone(encoder)(torch.from_numpy(filled))[-1][0].numpy()
    return made


# ---------------------------------------------------------------- what a vector depends on


@pytest.mark.parametrize(("tile", "overlap"), [(16, 0), (32, 8), (32, 28), (64, 32), (104, 0)])
def test_what_depends_on_a_patch_alone_is_the_same_in_any_tiles(ground: Path, tmp_path: Path, tile: int, overlap: int) -> None:
    scene = open_it(ground / "scene.tif")
    made = embed_scene(scene, ground / "alone", tmp_path, options=EmbedOptions(tile=tile, overlap=overlap))
    found, expected = vectors(made.files["embedding"]), whole_image(scene, Encoder.open(ground / "alone"))
    seen = np.isfinite(found[0])
    assert found.shape == (192, 26, 23)
    assert np.abs(found[:, seen] - expected[:, seen]).max() < 1e-5
    plain = np.zeros((104, 92), dtype=bool)
    plain[:HEIGHT, :WIDTH] = read_scene(scene, ROLES, scene.geobox()).valid_everywhere
    assert np.array_equal(seen, plain.reshape(26, 4, 23, 4).any(axis=(1, 3)))


def test_what_depends_on_the_surroundings_differs_with_the_tiles(ground: Path, tmp_path: Path) -> None:
    scene = open_it(ground / "scene.tif")
    small, large = (
        vectors(embed_scene(scene, ground / "wide", tmp_path / str(tile), options=EmbedOptions(tile=tile)).files["embedding"])
        for tile in (16, 64)
    )
    assert np.nanmax(np.abs(small - large)) > 1e-2


def test_a_single_tile_is_a_plain_pass(ground: Path, tmp_path: Path) -> None:
    scene = open_it(ground / "scene.tif")
    made = vectors(embed_scene(scene, ground / "wide", tmp_path, options=EmbedOptions(tile=104)).files["embedding"])
    architecture = Encoder.open(ground / "wide")
    image = np.zeros((1, 2, 104, 104), np.float32)  # the tile is square
    physical = to_physical(read_scene(scene, ROLES, scene.geobox()))
    image[0, :, :HEIGHT, :WIDTH] = np.where(physical.valid_everywhere, (physical.values - np.float32(0.1)) / np.float32(0.1), 0)
    with torch.inference_mode():
        expected = open_backbone(architecture)(torch.from_numpy(image))[-1][0].numpy()[:, :26, :23]
    seen = np.isfinite(made[0])
    assert np.abs(made[:, seen] - expected[:, seen]).max() < 1e-5


def test_blending_leaves_no_step_where_tiles_meet(ground: Path, tmp_path: Path) -> None:
    scene = open_it(ground / "scene.tif")

    def step_at_tiles(overlap: int) -> float:
        """Differences across the columns where tiles begin or end, over those across all others."""
        plan = plan_embedding(scene, Features(ground / "wide"), EmbedOptions(tile=32, overlap=overlap))
        tiles = plan.map.tiles.coarser(PATCH)
        lines = {line for origin in tiles.col_origins for line in (origin, origin + tiles.tile) if 0 < line < tiles.shape[1]}
        made = vectors(
            embed_scene(scene, ground / "wide", tmp_path / f"step{overlap}", options=EmbedOptions(tile=32, overlap=overlap)).files[
                "embedding"
            ]
        )
        across = np.linalg.norm(np.diff(made[:, 8:], axis=2), axis=0).mean(axis=0)
        at = np.isin(np.arange(1, tiles.shape[1]), list(lines))
        return float(across[at].mean() / across[~at].mean())

    assert step_at_tiles(16) < 1.03 < 1.06 < step_at_tiles(0)


def test_tiles_counted_in_patches_share_out_the_same_ground() -> None:
    from geoseg.mapping.tiles import plan_tiles

    fine = plan_tiles((HEIGHT, WIDTH), tile=32, overlap=16, stride=8, widest_panel=64)
    coarse = fine.coarser(PATCH)
    assert coarse.shape == (26, 23)
    assert fine.coarser(1) is fine
    for strip in fine.strips:
        rows, cols = coarse.finished_rows(strip.tile_row), strip.panel.coarser(PATCH).cols
        assert (rows.start * PATCH, cols.start * PATCH) == (strip.rows.start, strip.panel.cols.start)
        assert rows.stop == -(-strip.rows.stop // PATCH)
    total = np.zeros(26)
    for which, origin in enumerate(coarse.row_origins):
        weights = coarse.row_weights(which)[: 26 - origin]
        total[origin : origin + len(weights)] += weights
    assert np.abs(total - 1).max() < 1e-6


# ---------------------------------------------------------------- where vectors lie, and how they are stored


def test_the_grid_is_the_scene_s_made_coarser_from_its_first_pixel(ground: Path, tmp_path: Path) -> None:
    scene = open_it(ground / "scene.tif")
    made = embed_scene(scene, ground / "alone", tmp_path)
    with rasterio.open(made.files["embedding"]) as file:
        assert file.transform == scene.geobox().affine * rasterio.Affine.scale(PATCH)
        assert file.descriptions[:2] == ("E000", "E001")
        assert file.dtypes[0] == "float32"
        assert np.isnan(file.nodata)
        assert file.overviews(1) or max(file.shape) <= 128
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_upsampled_vectors_are_interpolated_between_the_middles_of_patches(ground: Path, tmp_path: Path) -> None:
    scene = open_it(ground / "scene.tif")
    coarse = vectors(embed_scene(scene, ground / "alone", tmp_path / "coarse").files["embedding"])
    fine_at = embed_scene(scene, ground / "alone", tmp_path / "fine", options=EmbedOptions(upsample=True)).files["embedding"]
    fine = vectors(fine_at)
    assert fine.shape == (192, HEIGHT, WIDTH)
    row, col = 10, 12  # patches around which all is seen
    shares = np.array([0.125, 0.375, 0.625, 0.875])
    left, right = coarse[:, row, col], coarse[:, row, col + 1]
    expected = left[:, None] * (1 - shares) + right[:, None] * shares
    got = fine[:, row * 4 + 1 : row * 4 + 3, col * 4 + 2 : col * 4 + 6].mean(axis=1)
    vertical = (coarse[:, row - 1] + coarse[:, row + 1] - 2 * coarse[:, row])[
        :, col : col + 2
    ] / 16  # the mean of two rows is off the middle
    assert np.abs(got - expected - vertical @ np.stack([1 - shares, shares])).max() < 1e-4
    with rasterio.open(fine_at) as file:
        assert file.transform == scene.geobox().affine


@pytest.mark.parametrize("upsample", [False, True])
def test_bytes_are_off_by_half_a_step_at_most(ground: Path, tmp_path: Path, upsample: bool) -> None:
    scene = open_it(ground / "scene.tif")
    options = {"upsample": upsample, "normalise": True}
    exact = vectors(embed_scene(scene, ground / "alone", tmp_path / "exact", options=EmbedOptions(**options)).files["embedding"])
    small = embed_scene(scene, ground / "alone", tmp_path / "small", options=EmbedOptions(dtype="int8", **options)).files["embedding"]
    with rasterio.open(small) as file:
        stored, scales, offsets = file.read(), np.array(file.scales), np.array(file.offsets)
        assert (file.dtypes[0], file.nodata) == ("int8", -128)
    seen = np.isfinite(exact[0])
    assert np.array_equal(stored[0] != -128, seen)
    assert stored[:, seen].min() == -127
    assert stored[:, seen].max() == 127
    back = stored * scales[:, None, None] + offsets[:, None, None]
    assert (np.abs(back - exact)[:, seen] <= scales[:, None] / 2 + 1e-6).all()
    assert np.abs(np.linalg.norm(exact[:, seen], axis=0) - 1).max() < 1e-5


def test_half_precision_is_rounded_and_smaller(ground: Path, tmp_path: Path) -> None:
    scene = open_it(ground / "scene.tif")
    exact = embed_scene(scene, ground / "alone", tmp_path / "exact").files["embedding"]
    half = embed_scene(scene, ground / "alone", tmp_path / "half", options=EmbedOptions(dtype="float16")).files["embedding"]
    assert np.array_equal(vectors(half), vectors(exact).astype(np.float16).astype(np.float32), equal_nan=True)
    assert half.stat().st_size < 0.7 * exact.stat().st_size


def test_an_earlier_level_may_be_taken(ground: Path, tmp_path: Path) -> None:
    scene = open_it(ground / "scene.tif")
    first = vectors(embed_scene(scene, ground / "wide", tmp_path / "first", options=EmbedOptions(level=1)).files["embedding"])
    last = vectors(embed_scene(scene, ground / "wide", tmp_path / "last").files["embedding"])
    assert np.nanmax(np.abs(first - last)) > 0.1
    with pytest.raises(InputError, match="levels 1 to 2"):
        embed_scene(scene, ground / "wide", tmp_path / "none", options=EmbedOptions(level=3))


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [
        ({"family": "vit.Pyramid", "size": "tiny", "patch": 8, "depth": 1}, (192, 13, 12)),
        ({"family": "smp.Unet", "encoder": "resnet18", "decoder_channels": [8, 8, 8], "encoder_depth": 3}, (128, 13, 12)),
    ],
)
def test_a_package_s_own_encoder_is_taken(ground: Path, tmp_path: Path, architecture: dict[str, Any], shape: tuple[int, ...]) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    from geoseg.legend import Legend
    from geoseg.models.package import ModelDescription, Output, write_package
    from geoseg.models.segmenter import build_network

    architecture = {**architecture, "in_channels": 2, "classes": 2}
    torch.manual_seed(0)
    network = build_network(architecture).eval()
    description = ModelDescription(
        name="two-classes", title="Two classes", description="", licence="CC-BY-4.0",
        preparation=Encoder.open(ground / "alone").preparation, outputs=(Output.from_legend("classes", Legend.from_names(["a", "b"])),),
        pixel_size_m=10, pixel_size_range_m=(5, 20), tile=104, overlap=8, stride=8, architecture=architecture,
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    write_package(tmp_path / "package", description, onnx=None, weights=save(network.state_dict()))
    scene = open_it(ground / "scene.tif")
    made = vectors(embed_scene(scene, tmp_path / "package", tmp_path / "made").files["embedding"])
    assert made.shape == shape
    physical, image = to_physical(read_scene(scene, ROLES, scene.geobox())), np.zeros((1, 2, 104, 104), np.float32)
    image[0, :, :HEIGHT, :WIDTH] = np.where(physical.valid_everywhere, (physical.values - np.float32(0.1)) / np.float32(0.1), 0)
    encoder = network.network.encoder
    with torch.inference_mode():
        seen_by = encoder(torch.from_numpy(image))
    expected = (seen_by if isinstance(seen_by, torch.Tensor) else seen_by[-1])[0].numpy()
    expected = expected.T.reshape(192, 13, 13) if expected.ndim == 2 else expected
    known = np.isfinite(made[0])
    assert np.abs(made - expected[:, :13, :12])[:, known].max() < 1e-4


# ---------------------------------------------------------------- stopped, refused, recorded


def test_what_was_stopped_goes_on_to_the_same_bytes(ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, options = open_it(ground / "scene.tif"), EmbedOptions(tile=32)
    whole = embed_scene(scene, ground / "wide", tmp_path / "whole", options=options).files["embedding"]

    class Stopped(Exception):
        pass

    done: list[int] = []

    def stop(finished: int, of: int) -> None:
        done.append(finished)
        if len(done) == 2:
            raise Stopped

    with pytest.raises(Stopped) as stopped:
        embed_scene(scene, ground / "wide", tmp_path / "parts", options=options, progress=stop)
    assert any("--resume" in note for note in stopped.value.__notes__)
    with pytest.raises(InputError, match="--resume"):
        embed_scene(scene, ground / "wide", tmp_path / "parts", options=options)
    with pytest.raises(InputError, match="normalise"):
        embed_scene(scene, ground / "wide", tmp_path / "parts", options=EmbedOptions(tile=32, normalise=True), resume=True)
    computed: list[int] = []
    seen = embedding._seen_vectors
    monkeypatch.setattr(embedding, "_seen_vectors", lambda one, step: (computed.append(one.strip.number), seen(one, step))[1])
    again = embed_scene(scene, ground / "wide", tmp_path / "parts", options=options, resume=True)
    assert computed
    assert min(computed) == 2
    assert again.files["embedding"].read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["scene_embedding.json", "scene_embedding.tif"]


def test_panels_change_nothing(ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geoseg.mapping import embed_plan

    scene, options = open_it(ground / "scene.tif"), EmbedOptions(tile=16)
    wide = embed_scene(scene, ground / "wide", tmp_path / "wide", options=options).files["embedding"]
    monkeypatch.setattr(embed_plan, "_PANEL_BYTES", 1.0)
    monkeypatch.setattr(embed_plan, "_LEAST_TILES", 2)
    assert len(plan_embedding(scene, Features(ground / "wide"), options).map.tiles.panels) > 1
    narrow = embed_scene(scene, ground / "wide", tmp_path / "narrow", options=options).files["embedding"]
    assert np.array_equal(vectors(narrow), vectors(wide), equal_nan=True)


def test_the_item_says_how_it_was_made(ground: Path, tmp_path: Path, geoseg) -> None:
    ran = geoseg("embed", ground / "scene.tif", "--model", ground / "alone", "-o", tmp_path / "made", "--normalise", "--tile", "32", *WORDS)
    assert ran.code == 0, ran.err
    assert "26 rows x 23 columns of 192 numbers, each for 4 x 4 pixels" in ran.out
    item = json.loads((tmp_path / "made" / "scene_embedding.json").read_text())
    lineage = item["properties"]["processing:lineage"]
    assert lineage.startswith("geoseg embed")
    assert "--normalise" in lineage
    assert "--tile 32" in lineage
    assert item["properties"]["geoseg:model"]["licence"] == "CC-BY-4.0"
    assert item["assets"]["embedding"]["bands"][:2] == [{"name": "E000"}, {"name": "E001"}]
    assert "Copernicus" in item["properties"]["geoseg:attribution"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--tile", "30"), "multiples of 4 pixels, such as 32"),
        (("--tile", "32", "--overlap", "32"), "overlap 32 does not fit tiles of 32"),
        (("--level", "9"), "levels 1 to 1"),
        (("--batch", "many"), "whole number"),
        (("--bands", "red,blue"), "nir is missing"),
        (("--model", "nowhere"), "there is no model package nowhere"),
    ],
)
def test_what_cannot_be_embedded_is_one_sentence(ground: Path, geoseg, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    given = ("embed", ground / "scene.tif", "--model", ground / "alone", "-o", tmp_path / "new", *WORDS, *words)
    assert told in refusal(geoseg, tmp_path, *given)


def test_a_package_without_weights_is_refused(tmp_path: Path, ground: Path) -> None:
    from packages import per_pixel_package

    per_pixel_package(tmp_path / "onnx_only", list(ROLES), [[1.0, 0.0], [-1.0, 0.0]])
    with pytest.raises(PackageError, match="no weights for torch"):
        embed_scene(open_it(ground / "scene.tif"), tmp_path / "onnx_only", tmp_path / "made")


# ---------------------------------------------------------------- read back


def test_from_python_a_name_is_enough(ground: Path, tmp_path: Path) -> None:
    words: dict[str, Any] = {"sensor": "sentinel-2-l2a", "bands": list(ROLES), "scale": 1e-4}
    exact, small = (
        embedding.embed(ground / "scene.tif", ground / "alone", tmp_path / dtype, options=EmbedOptions(dtype=dtype), **words)  # type: ignore[arg-type]
        for dtype in ("float32", "int8")
    )
    array = exact.to_xarray()
    assert array.shape == (192, 26, 23)
    assert np.array_equal(array.values, vectors(exact.files["embedding"]), equal_nan=True)
    assert np.nanmax(np.abs(small.to_xarray().values - array.values)) < 0.05
    assert np.array_equal(np.isnan(small.to_xarray().values), np.isnan(array.values))
    with pytest.raises(InputError, match="open already"):
        embedding.embed(open_it(ground / "scene.tif"), ground / "alone", tmp_path / "again", **words)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_file_opens_as_a_scene(ground: Path, tmp_path: Path, dtype: Any) -> None:
    made = embed_scene(open_it(ground / "scene.tif"), ground / "alone", tmp_path, options=EmbedOptions(dtype=dtype))
    scene = open_scene(made.files["embedding"])
    assert scene.roles[:2] == ("e000", "e001")
    assert len(scene.roles) == 192
    assert "Copernicus" in scene.attribution
    assert {layer.band.unit for layer in scene.layers} == {"1"}
    raster = to_physical(read_scene(scene, scene.roles, scene.geobox()))
    expected = whole_image(open_it(ground / "scene.tif"), Encoder.open(ground / "alone"))
    assert raster.valid.any()
    off = np.abs(raster.values - expected)[raster.valid]
    assert off.max() < (1e-5 if dtype == "float32" else 0.05)


@pytest.mark.parametrize("recipe", ["probe", "pixel_forest"])
def test_few_labels_on_embeddings_make_a_map(ground: Path, tmp_path: Path, geoseg, recipe: str) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("onnx")
    water = (np.add.outer(np.arange(96), np.arange(96)) // 24) % 2 == 0
    image = np.stack([np.where(water, 500, 900), np.where(water, 200, 3000)]) + np.random.default_rng(0).integers(0, 200, (2, 96, 96))
    write(tmp_path / "place.tif", image.astype(np.uint16))
    labels = np.where(np.random.default_rng(1).random((96, 96)) < 0.3, np.where(water, 20, 10), 255)
    write(tmp_path / "labels.tif", labels[np.newaxis].astype(np.uint8), nodata=255)
    embedded = ("--model", ground / "alone", "-o", tmp_path / "made", "--dtype", "int8", "--upsample")
    assert geoseg("embed", tmp_path / "place.tif", *embedded, *WORDS).code == 0
    scene, few = tmp_path / "made" / "place_embedding.tif", () if recipe == "probe" else ("-s", "trees=5", "-s", "bands=[e000, e001, e002]")
    trained = ("--labels", tmp_path / "labels.tif", "--recipe", recipe, "-o", tmp_path / "learned", "-s", "block=32", "-s", "guard=0", *few)
    ran = geoseg("train", scene, *trained)
    assert ran.code == 0, ran.err
    ran = geoseg("predict", scene, "--model", tmp_path / "learned", "-o", tmp_path / "map", "--no-polygons")
    assert ran.code == 0, ran.err
    classes = vectors(tmp_path / "map" / "place_embedding_classes.tif")[0]
    assert ((classes == 20) == water).mean() > 0.8


def test_a_scene_smaller_than_a_patch_is_one_vector(ground: Path, tmp_path: Path) -> None:
    write(tmp_path / "tiny.tif", np.full((2, 3, 2), 900, np.uint16), nodata=0)
    made = embed_scene(open_it(tmp_path / "tiny.tif"), ground / "wide", tmp_path / "made")
    assert vectors(made.files["embedding"]).shape == (192, 1, 1)


def test_only_an_area_may_be_embedded(ground: Path, tmp_path: Path) -> None:
    import geopandas
    from shapely.geometry import box

    area = box(500_000 + 400, 4_800_000 - 800, 500_000 + 600, 4_800_000 - 400)  # rows 40 to 79, columns 40 to 59
    geopandas.GeoDataFrame(geometry=[area], crs="EPSG:32630").to_file(tmp_path / "area.gpkg")
    options = EmbedOptions(aoi=str(tmp_path / "area.gpkg"), tile=16)
    seen = np.isfinite(
        vectors(embed_scene(open_it(ground / "scene.tif"), ground / "wide", tmp_path, options=options).files["embedding"])[0]
    )
    expected = np.zeros((26, 23), dtype=bool)
    expected[10:20, 10:15] = True
    assert np.array_equal(seen, expected)


def test_what_the_encoders_licence_forbids_goes_with_its_vectors(tmp_path: Path) -> None:
    encoder = make_encoder(tmp_path / "encoder", restriction="not for commercial use")
    made = embed_scene(open_it(write_scene(tmp_path / "scene.tif")), encoder.path, tmp_path / "out")
    assert "not for commercial use" in open_scene(made.files["embedding"]).attribution
