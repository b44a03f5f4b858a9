"""What the browser asks for, and the answers: the page, tiles, values at a place, outlines, areas and files, each by its id.

No path from outside is ever joined to one on the disk: layers and files are looked up by the ids that were given when they were found.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any

import numpy as np

from geoseg.errors import GeosegError, require
from geoseg.io.opening import files_kept_open
from geoseg.io.page_style import PAGE_STYLE
from geoseg.view.areas import class_areas
from geoseg.view.guard import App, Guarded, Rules
from geoseg.view.outlines import View, outlines_in
from geoseg.view.places import values_at
from geoseg.view.shown import RasterLayer, Shown, ShownMap, ShownScene
from geoseg.view.tiles import DrawnImagery, Picture, SceneLook, Stretch, Tile, bounds_lonlat, deepest_zoom, draw_layer, ramp
from geoseg.view.watched import GoneError

STATIC = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "maplibre-gl.css": ("maplibre-gl.css", "text/css; charset=utf-8"),
    **{
        name: (name, "text/javascript; charset=utf-8")
        for name in ("page.js", "layers.js", "panel.js", "readout.js", "swipe.js", "maplibre-gl.mjs", "maplibre-gl-worker.mjs")
    },
}
"""Address → file of the package and its media type."""

_FOREVER, _NEVER = "private, max-age=31536000, immutable", "no-store"
_MOST_CUT = 25.0
_READERS = max(4, (os.cpu_count() or 1) + 2)
"""Requests that are worked on at once."""
_RAMP_STEPS = 9


@dataclass(frozen=True)
class Page:
    """What is shown, with what is worked out once while it is."""

    shown: Shown

    @cached_property
    def imagery(self) -> dict[str, tuple[str, DrawnImagery, str]]:
        """Id → what it is of, how it is drawn, and a word that changes with its files."""
        found: dict[str, tuple[str, DrawnImagery, str]] = {}
        for scene in self.shown.scenes:
            version = "-".join(file.version for file in scene.files)[:64] or "0"
            for place, look in enumerate(scene.looks):
                found[f"{scene.id}-i{place}"] = (scene.scene.name, DrawnImagery(SceneLook(scene, look)), version)
        for one in self.shown.maps:
            if one.picture is not None:
                drawn = DrawnImagery(Picture(one.picture, one.result.classes.geobox))
                found[f"{one.id}-i0"] = (one.title, drawn, one.picture.file.version)
        return found

    @cached_property
    def areas(self) -> dict[str, Callable[[], list[dict[str, Any]]]]:
        """Map → its table of areas, counted when it is first asked for."""
        return {one.id: _once(lambda one=one: class_areas(one.result.classes)) for one in self.shown.maps}  # type: ignore[misc]

    def about(self) -> dict[str, Any]:
        """All that the page needs to know before it asks for anything."""
        shown = self.shown
        names = [*(one.title for one in shown.maps), *(one.scene.name for one in shown.scenes)]
        credits = [*(one.result.attribution for one in shown.maps), *(one.scene.attribution for one in shown.scenes)]
        return {
            "title": ", ".join(dict.fromkeys(names)),
            "credits": [text for text in dict.fromkeys(credits) if text],
            "ramp": ["#{:02x}{:02x}{:02x}".format(*colour[:3]) for colour in ramp()[np.linspace(0, 255, _RAMP_STEPS).astype(int)]],
            "imagery": [
                {
                    "id": name,
                    "title": drawn.imagery.title,
                    "of": of,
                    "cut": drawn.imagery.cut,
                    "bounds": bounds_lonlat(drawn.imagery.grid),
                    "maxzoom": deepest_zoom(drawn.imagery.grid),
                    "version": version,
                }
                for name, (of, drawn, version) in self.imagery.items()
            ],
            "maps": [self._map_facts(one) for one in shown.maps],
            "scenes": [_scene_facts(one) for one in shown.scenes],
        }

    def _map_facts(self, one: ShownMap) -> dict[str, Any]:
        grid, model = one.result.classes.geobox, one.result.model or {}
        layers = [one.classes, *one.others, *one.scores, *([one.reason] if one.reason is not None else [])]
        return {
            "id": one.id,
            "title": one.title,
            "time": None if one.result.time is None else one.result.time.isoformat(),
            "model": model.get("title") or model.get("name"),
            "bounds": bounds_lonlat(grid),
            "maxzoom": deepest_zoom(grid),
            "legend": [
                {"code": c.code, "name": c.name, "colour": c.colour, "background": c.background} for c in one.result.classes.legend.classes
            ],
            "layers": [_layer_facts(layer) for layer in layers],
            "outlines": [{"id": layer.id, "title": layer.title, "version": layer.file.version} for layer in one.outlines],
            "files": [{"id": name, "name": file.path.name, "bytes": file.size} for name, file in one.files.items()],
        }


def make_app(shown: Shown, rules: Rules) -> App:
    """The server's application; MissingExtraError where the extra `web` is not installed."""
    fastapi = require("fastapi", extra="web")
    responses = require("fastapi.responses", extra="web")
    warnings.filterwarnings("ignore", category=require("rio_tiler.errors", extra="web").NoOverviewWarning)
    page = Page(shown)

    @asynccontextmanager
    async def while_it_runs(_: Any) -> AsyncIterator[None]:
        limiter = require("anyio.to_thread", extra="web").current_default_thread_limiter()
        limiter.total_tokens = _READERS
        with files_kept_open():
            yield

    app = fastapi.FastAPI(title="geoseg view", docs_url=None, redoc_url=None, openapi_url=None, lifespan=while_it_runs)

    def answer(body: bytes | str, kind: str, *, keep: bool) -> Any:
        return responses.Response(body, media_type=kind, headers={"cache-control": _FOREVER if keep else _NEVER})

    def not_there(what: str) -> Any:
        return fastapi.HTTPException(404, f"there is no such {what}; reload the page")

    @app.exception_handler(GeosegError)  # type: ignore[untyped-decorator]
    async def refuse(_: Any, error: GeosegError) -> Any:
        return responses.JSONResponse({"detail": str(error)}, 410 if isinstance(error, GoneError) else 500)

    @app.get("/about")  # type: ignore[untyped-decorator]
    def about() -> Any:
        return responses.JSONResponse(page.about(), headers={"cache-control": _NEVER})

    @app.get("/imagery/{name}/{z}/{x}/{y}.png")  # type: ignore[untyped-decorator]
    def imagery_tile(name: str, z: int, x: int, y: int, cut: float = 2.0, gamma: float = 1.0) -> Any:
        tile = Tile(z, x, y)
        if name not in page.imagery or not tile.exists():
            raise not_there("tile")
        if not (0 <= cut <= _MOST_CUT and 0.1 <= gamma <= 10):
            raise fastapi.HTTPException(422, f"cut is {cut:g} and gamma {gamma:g}; expected 0…{_MOST_CUT:g} and 0.1…10")
        return answer(page.imagery[name][1].tile(tile, Stretch(cut, gamma)), "image/png", keep=True)

    @app.get("/tiles/{name}/{z}/{x}/{y}.png")  # type: ignore[untyped-decorator]
    def layer_tile(name: str, z: int, x: int, y: int) -> Any:
        layer, tile = shown.rasters.get(name), Tile(z, x, y)
        if layer is None or layer.kind == "picture" or not tile.exists():
            raise not_there("tile")
        return answer(draw_layer(layer, tile), "image/png", keep=True)

    @app.get("/values")  # type: ignore[untyped-decorator]
    def values(lng: float, lat: float) -> Any:
        if not (np.isfinite(lng) and -90 <= lat <= 90):
            raise fastapi.HTTPException(422, f"the place {lng:g}, {lat:g} is none on Earth")
        return responses.JSONResponse(values_at(shown, (lng + 180) % 360 - 180, lat), headers={"cache-control": _NEVER})

    @app.get("/outlines/{name}")  # type: ignore[untyped-decorator]
    def outlines(name: str, west: float, south: float, east: float, north: float, zoom: float) -> Any:
        layer = shown.outlines.get(name)
        if layer is None:
            raise not_there("layer")
        if not (-540 <= west < east <= 540 and -90 <= south < north <= 90 and 0 <= zoom <= DEEPEST_VIEW):
            raise fastapi.HTTPException(422, "the view is none on Earth; expected west < east and south < north in degrees")
        legend = next(one.result.classes.legend for one in shown.maps if layer in one.outlines)
        return answer(outlines_in(layer, View(west, south, east, north, zoom), legend), "application/geo+json", keep=False)

    @app.get("/areas/{name}")  # type: ignore[untyped-decorator]
    def areas(name: str) -> Any:
        if name not in page.areas:
            raise not_there("map")
        return responses.JSONResponse(page.areas[name](), headers={"cache-control": _NEVER})

    @app.get("/files/{name}")  # type: ignore[untyped-decorator]
    def file(name: str) -> Any:
        found = shown.files.get(name)
        if found is None:
            raise not_there("file")
        return responses.FileResponse(found.check(), filename=found.path.name, headers={"cache-control": _NEVER})

    @app.get("/style.css")  # type: ignore[untyped-decorator]
    def style() -> Any:
        return answer(PAGE_STYLE, "text/css; charset=utf-8", keep=False)

    @app.get("/{name:path}")  # type: ignore[untyped-decorator]
    def static(name: str) -> Any:
        if name not in STATIC:
            raise not_there("page")
        own, kind = STATIC[name]
        return answer((files("geoseg.view") / "static" / own).read_bytes(), kind, keep=False)

    return Guarded(app, rules)


DEEPEST_VIEW = 30.0
"""Maps can be enlarged beyond the last tiles."""


def _layer_facts(layer: RasterLayer) -> dict[str, Any]:
    ends = layer.ends if layer.legend is None else None
    legend = (
        None if layer.legend is None else [{"name": one.name, "colour": one.colour} for one in layer.legend.classes if not one.background]
    )
    return {"id": layer.id, "title": layer.title, "ends": ends, "legend": legend, "version": layer.file.version}


def _scene_facts(one: ShownScene) -> dict[str, Any]:
    return {
        "id": one.id,
        "title": one.scene.name,
        "sensor": one.scene.sensor.title,
        "time": None if one.scene.time is None else one.scene.time.isoformat(),
        "bounds": bounds_lonlat(one.grid),
    }


def _once(work: Callable[[], list[dict[str, Any]]]) -> Callable[[], list[dict[str, Any]]]:
    """The same, worked out when it is first asked for; others wait meanwhile."""
    lock = threading.Lock()
    made: list[list[dict[str, Any]]] = []

    def told() -> list[dict[str, Any]]:
        with lock:
            if not made:
                made.append(work())
            return made[0]

    return told
