"""Labels from a PostGIS database, on a server of this test's own; skipped where PostgreSQL or PostGIS is not installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import geopandas
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import box

from geoseg.errors import InputError, LabelError
from geoseg.io.labels import read_labels, read_legend
from geoseg.io.vectors import read_features

sqlalchemy = pytest.importorskip("sqlalchemy", reason="geoseg[postgis] is not installed")
pytest.importorskip("psycopg", reason="geoseg[postgis] is not installed")

GRID = GeoBox((40, 40), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32632")
FIELDS = geopandas.GeoDataFrame(
    {"id": [2, 1, 3], "class": ["water", "land", None]},
    geometry=[
        box(500_000, 4_999_800, 500_200, 5_000_000),
        box(500_100, 4_999_700, 500_300, 5_000_000),
        box(500_300, 4_999_600, 500_400, 5_000_000),
    ],
    crs="EPSG:32632",
)


def _programs() -> Path | None:
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return places[-1] if places else None


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """Address of a database with PostGIS that listens on a local socket file only."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    owner = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name  # the server refuses to be run by root
    if owner not in {one.pw_name for one in pwd.getpwall()}:
        pytest.skip("PostgreSQL cannot be run by root, and there is no user postgres")
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    shutil.chown(folder, owner)

    def call(program: str, *words: str) -> None:
        done = subprocess.run([str(programs / program), *words], user=owner, cwd=folder, capture_output=True, text=True, timeout=60, env={})
        if done.returncode:
            raise RuntimeError(done.stderr)

    try:
        call("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "geoseg", "--no-sync", "-E", "UTF8")
        call("pg_ctl", "-D", f"{folder}/data", "-w", "-l", f"{folder}/log", "-o", f"-k {folder} -c listen_addresses='' -F", "start")
    except RuntimeError as error:
        shutil.rmtree(folder)
        pytest.skip(f"no server could be started: {error}")
    try:
        address = f"postgresql://geoseg@/postgres?host={folder}"
        engine = sqlalchemy.create_engine(address.replace("postgresql", "postgresql+psycopg"))
        with engine.begin() as connection:
            try:
                connection.execute(sqlalchemy.text("CREATE EXTENSION postgis"))
            except sqlalchemy.exc.DBAPIError:
                pytest.skip("PostGIS is not installed")
            connection.execute(sqlalchemy.text("CREATE TABLE fields (id integer PRIMARY KEY, class text, shape geometry(Polygon, 32632))"))
            for row in FIELDS.itertuples():
                values = {"id": row.id, "class": row[2] if isinstance(row[2], str) else None, "shape": row.geometry.wkt}
                connection.execute(sqlalchemy.text("INSERT INTO fields VALUES (:id, :class, ST_GeomFromText(:shape, 32632))"), values)
            connection.execute(sqlalchemy.text("CREATE SCHEMA other"))
            moved = "SELECT id, class, ST_Transform(shape, 4326)::geometry(Polygon, 4326) AS geom FROM fields"
            connection.execute(sqlalchemy.text(f'CREATE VIEW other."in degrees" AS {moved}'))
        engine.dispose()
        yield address
    finally:
        call("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_a_table_labels_as_its_geopackage_does(database: str, tmp_path: Path) -> None:
    FIELDS.sort_values("id").to_file(tmp_path / "fields.gpkg")
    table = f"{database}|layername=public.fields"
    legend = read_legend(table)
    assert legend.names == ("land", "water")
    for theirs, ours in zip(read_labels(table, GRID), read_labels(tmp_path / "fields.gpkg", GRID), strict=True):
        np.testing.assert_array_equal(theirs, ours)
    indices, labelled = read_labels(table, GRID)
    assert legend.names[indices[5, 15]] == "water", "the later of two that overlap, by the primary key"
    assert not labelled[5, 35], "a null is no label"


def test_a_view_in_another_crs_is_read_and_has_no_order(database: str, caplog: pytest.LogCaptureFixture) -> None:
    frame = read_features(f"{database}|layername=in degrees")
    assert (len(frame), frame.crs.to_epsg(), "has no primary key" in caplog.text) == (3, 4326, True)
    back = frame.sort_values("id").to_crs(FIELDS.crs).geometry.reset_index(drop=True)
    assert back.geom_equals_exact(FIELDS.sort_values("id").geometry.reset_index(drop=True), 0.01).all()


def test_what_cannot_be_read_says_why(database: str) -> None:
    with pytest.raises(InputError, match=r"several geometries that could be meant: other.in degrees, public.fields; name a table"):
        read_features(database)
    with pytest.raises(InputError, match=r"no table 'farms' with geometries; it has other.in degrees, public.fields"):
        read_features(f"{database}|layername=farms")
    with pytest.raises(InputError, match=r"cannot be read .*does not exist.*check the address"):
        read_features(database.replace("/postgres?", "/nothing?"))
    with pytest.raises(LabelError, match=r"no class column 'crop' .* it has id, class"):
        read_legend(f"{database}|layername=public.fields", "crop")


def test_a_password_never_stands_in_an_address() -> None:
    with pytest.raises(InputError, match="PGPASSWORD") as refused:
        read_features("postgresql://me:secret@localhost/db|layername=fields")
    assert "secret" not in str(refused.value)
