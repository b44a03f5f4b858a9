"""The table of many scenes: a row for each, with the ground that it covers, as GeoParquet beside the maps."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from geoseg.errors import InputError
from geoseg.io.atomic import atomic
from geoseg.models.package import ModelPackage
from geoseg.scenes.many import Shard

if TYPE_CHECKING:
    from geoseg.mapping.many import SceneResult

_TEXTS = ("name", "source", "state", "error", "model", "model_checksum", "item")
_NUMBERS = ("seconds", "observed_share", "megapixels")
_AREA = "km2_"


def table_path(out: Path, shard: Shard | None = None) -> Path:
    """Where the table of all scenes lies, or that of one part of them."""
    return out / ("summary.parquet" if shard is None else f"summary_{shard.part}_of_{shard.parts}.parquet")


@dataclass(frozen=True)
class SummaryTable:
    """A GeoParquet file with one row for each scene: those of this run, and of earlier ones whose scenes are not in this.

    Columns: `name`, `source`, `state` (finished, skipped, failed), `error`, `seconds` that the map took, `observed_share` (0…1 of the
    ground asked for), `megapixels`, `km2_CLASS` for each class (`km2_OUTPUT_CLASS` where the package has several outputs), `model`,
    `model_checksum`, `item` (the map's STAC Item beside this file), and the scene's outline in EPSG:4326.
    """

    path: Path
    before: tuple[dict[str, Any], ...]
    """Rows of earlier runs."""

    @classmethod
    def open(cls, out: Path, shard: Shard | None = None) -> Self:
        """The table in `out`, of its own for each part of a list; InputError where a file of its name is no such table."""
        path = table_path(out, shard)
        if not path.exists():
            return cls(path, ())
        import geopandas

        try:
            frame = geopandas.read_parquet(path)
        except Exception as error:  # pyarrow's and geopandas' errors share no class
            raise InputError(f"{path} is not a table of geoseg ({' '.join(str(error).split())}); move it, or choose another -o") from error
        if missing := [column for column in (*_TEXTS, *_NUMBERS) if column not in frame]:
            raise InputError(f"{path} is not a table of geoseg, it has no column {missing[0]}; move it, or choose another -o")
        rows = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
        return cls(path, tuple(rows))

    def write(self, results: Iterable[SceneResult], package: ModelPackage) -> None:
        """Write the file anew with these results; OutputError where it cannot be written."""
        import geopandas

        new = {result.name: self._row(result, package) for result in sorted(results, key=lambda one: one.state != "failed")}
        rows = [row for row in self.before if row["name"] not in new] + list(new.values())
        areas = dict.fromkeys(column for row in reversed(rows) for column in row if column.startswith(_AREA))
        columns = [*_TEXTS[:4], *_NUMBERS, *areas, *_TEXTS[4:], "geometry"]
        frame = geopandas.GeoDataFrame(
            [{column: row.get(column) for column in columns} for row in rows], geometry="geometry", crs="EPSG:4326"
        )
        frame = frame.astype(dict.fromkeys(_TEXTS, "string") | dict.fromkeys((*_NUMBERS, *areas), "float64"))
        with atomic(self.path) as part:
            frame.to_parquet(part, index=False)

    def _row(self, result: SceneResult, package: ModelPackage) -> dict[str, Any]:
        row: dict[str, Any] = {"name": result.name, "source": result.source, "state": result.state, "error": result.error}
        row |= {"seconds": result.seconds, "model": package.name, "model_checksum": package.checksum, "geometry": None}
        if result.state == "failed":
            return row
        summary, item = result.summary, Path(result.files["item"])
        several = len(package.outputs) > 1
        for output, classes in summary["classes"].items():
            row |= {f"{_AREA}{output}_{one['name']}" if several else f"{_AREA}{one['name']}": one["area_km2"] for one in classes}
        return row | {
            "seconds": summary["seconds"],
            "observed_share": summary["observed_share"],
            "megapixels": summary["rows"] * summary["cols"] / 1e6,
            "item": item.name,
            "geometry": _outline(item),
        }


def _outline(item: Path) -> Any:
    """The ground that an Item covers, in longitude and latitude."""
    from shapely.geometry import shape

    return shape(json.loads(item.read_text(encoding="utf-8"))["geometry"])
