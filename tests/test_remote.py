"""Scenes on a server that is busy or drops the line: reads are tried again, and what fails for good is said in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from command_line import contents
from failing_server import FailingServer, serving
from test_damage import damage, pixels, scene

from geoseg.errors import SceneError
from geoseg.io import remote
from geoseg.io.damage import DamageLog, damage_noted
from geoseg.io.geotiff import read_raster
from geoseg.io.opening import opened

pytestmark = pytest.mark.enable_socket  # of this machine alone: 127.0.0.1


def noise(path: Path, side: int) -> None:
    with rasterio.open(scene(path)) as file:
        profile = file.profile | {"width": side, "height": side}
    with rasterio.open(path, "w", **profile) as file:
        file.descriptions = ("red",)
        file.write(np.random.default_rng(0).integers(1, 200, (1, side, side)).astype("uint8"))


@pytest.fixture
def server(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingServer]:
    """A server of `noise.tif`, larger than what GDAL fetches when it opens a file; all waits are short."""
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.01")
    monkeypatch.setattr(remote, "WAITS_S", (0.01, 0.02))
    noise(place / "noise.tif", 512)
    with serving(place) as running:
        yield running


@pytest.mark.parametrize("how", [503, 429, 500, "drop"])
@pytest.mark.parametrize("gdal_tries", ["4", "0"])
def test_a_server_that_fails_for_a_while_changes_nothing(server, place, monkeypatch, how, gdal_tries):
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", gdal_tries)  # without any, geoseg's own tries must do
    server.fail(2, how)
    with opened(server.path("noise.tif")):
        pass
    server.fail(2, how)
    raster = read_raster(server.path("noise.tif"), [1])
    assert server.state()["failing"] == 0
    np.testing.assert_array_equal(raster.values, pixels(place / "noise.tif"))


@pytest.mark.parametrize("how", [503, "drop"])
def test_a_server_that_never_answers_is_one_sentence(server, geoseg, place, monkeypatch, how):
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "1")
    server.fail(10**9, how)
    before = contents(place)
    ran = geoseg("predict", server.path("noise.tif"), "--model", "model", "-o", "out")
    assert ran.code == 2
    assert "see that it exists and can be reached" in ran.sentence
    assert contents(place) == before
    assert len(server.state()["asked"]) >= 6  # three tries, each with one more of GDAL's


@pytest.mark.parametrize("mode", ["stop", "nodata"])
def test_a_server_that_fails_in_the_middle_leaves_nothing_half_written(server, geoseg, place, monkeypatch, mode):
    import geoseg.mapping.make_map as make_map

    planned = make_map.plan_map

    def plan_then_fail(*given: Any) -> Any:
        plan = planned(*given)
        server.fail(10**9, 503)
        return plan

    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    monkeypatch.setattr(make_map, "plan_map", plan_then_fail)
    noise(place / "large.tif", 2600)  # so large that planning looks at a few windows only
    before = contents(place)
    ran = geoseg("predict", server.path("large.tif"), "--model", "model", "-o", "out", "--on-error", mode)
    assert ran.code == 2
    assert "could not be fetched in full, in several tries" in ran.sentence
    assert contents(place) == before


def test_no_such_file_on_a_server_is_asked_for_once(server):
    with pytest.raises(SceneError, match="can be reached"), opened(server.path("absent.tif")):
        pass
    assert server.state()["asked"].count("absent.tif") <= 2  # HEAD and GET


def test_a_block_that_came_whole_and_is_damaged_is_noted_at_once(server, place, monkeypatch):
    monkeypatch.setattr(remote, "WAITS_S", (1e9,))  # no wait, or the test never ends
    damage(place / "noise.tif", 1, 2)
    log = DamageLog()
    with damage_noted(log):
        read_raster(server.path("noise.tif"), [1])
    assert [block.block for block in log.blocks] == [(1, 2)]


def test_a_remote_file_that_ends_too_early_is_no_damage_but_an_error(server, place):
    data = (place / "noise.tif").read_bytes()
    (place / "noise.tif").write_bytes(data[: len(data) // 2])
    with damage_noted(DamageLog()), pytest.raises(SceneError, match=r"could not be fetched in full.*that the file is whole"):
        read_raster(server.path("noise.tif"), [1])


def test_masks_beside_a_remote_file_are_found(server, place):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"), rasterio.open(place / "noise.tif", "r+") as file:
        file.write_mask(np.arange(512 * 512).reshape(512, 512) % 3 > 0)
    assert (place / "noise.tif.msk").exists()
    assert 0.6 < read_raster(server.path("noise.tif"), [1]).valid.mean() < 0.7


def test_what_the_user_set_for_gdal_stays(monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "9")
    assert "GDAL_HTTP_MAX_RETRY" not in remote.http_settings()
    assert "GDAL_HTTP_RETRY_CODES" in remote.http_settings()


def test_a_local_file_is_never_tried_again(monkeypatch):
    tries = []

    def fail() -> None:
        tries.append(1)
        raise OSError("Read error")

    with pytest.raises(OSError, match="Read error"):
        remote.persistently("scene.tif", fail, failures=(OSError,))
    assert len(tries) == 1
