"""What the page of `geoseg view` costs: tiles of a full Sentinel-2 map, beside plain rio-tiler; outlines; starting; memory.

    python benchmarks/measure_view.py [--side 10980] [--rounds 2]

A class map of smooth regions with its picture, both written as `geoseg predict` writes them, and 60,000 polygons, served by the command in
a process of its own. A walk of 200 tiles, as MapLibre asks for them with six connections: nearer by whole levels, aside, out again. Cold
is the walk's first time in a new process, warm the second; nothing is kept between, as a browser would. Beside it plain rio-tiler:
`Reader.tile` and `render` in six threads of a process of its own, the file opened for each tile, no server. Rounds alternate. The system's
file cache is warm throughout. Prints Markdown and writes benchmarks/results/view.md. For Linux, whose /proc tells a process's peak.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import cos, pi
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geoseg.legend import Legend

RESULTS = Path(__file__).parent / "results" / "view.md"
SIDE, STRIP, PIXEL = 10980, 512, 10
LEFT, TOP, CRS = 500_000, 5_000_000, "EPSG:32632"
LEGEND = Legend.from_names(["water", "trees", "grass", "crops", "built"])
POLYGONS = 60_000
TILES, CONNECTIONS = 200, 6
SCREEN = (5, 4)
"""Tiles that a screen of about 1200 x 900 pixels shows, across and down."""
NEAREST = 14
COMMAND = "import sys; from geoseg.cli import main; main()"
OURS, PEER = "geoseg view", "rio-tiler alone"
LAYERS = {"classes": ("tiles/m0-classes", "big_classes.tif"), "imagery": ("imagery/m0-i0", "big_image.tif")}

Pass = tuple[list[float], float, float]
"""Seconds of each tile, seconds of all together, and processor seconds of whoever drew them."""

Walk = list[tuple[int, int, int]]
"""Tiles as z, x, y, in the order in which they are asked for."""


def main(side: int, rounds: int) -> None:
    """Make the maps, measure, print and write."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, plain = Path(temporary) / "map", Path(temporary) / "plain"
        write_maps(folder, plain, side)
        walk = tiles_of_a_walk(side)
        passes: dict[tuple[str, str, str], list[Pass]] = {}
        facts: dict[str, list[float]] = {}
        outlines: dict[str, list[tuple[float, int]]] = {}
        for _ in range(rounds):
            with served(folder, facts, OURS) as ask:
                for layer, (address, _) in LAYERS.items():
                    for state in ("cold", "warm"):
                        one = [f"{address}/{z}/{x}/{y}.png?cut=0&gamma=1" for z, x, y in walk]
                        passes.setdefault((layer, OURS, state), []).append(ask(one)[:3])
                for name, words in views(side).items():
                    for _ in range(5):
                        times, *_, sizes = ask([f"outlines/m0-o0-0?{urlencode(words)}"])
                        outlines.setdefault(name, []).append((times[0], sizes[0]))
            for layer, state, *one_pass in ask_peer(folder, walk, facts):
                passes.setdefault((layer, PEER, state), []).append(tuple(one_pass))
        far = walk[0]
        with served(plain, {}, "plain") as ask:
            z, x, y = far
            farthest = [ask([f"tiles/m0-classes/{z - out}/{x >> out}/{y >> out}.png"])[0][0] for out in range(4)]
    text = report(side, rounds, len(walk), passes, facts, outlines, farthest, far[0])
    print(text)
    RESULTS.write_text(text, encoding="utf-8")


# ---------------------------------------------------------------- below: what is looked at


def write_maps(folder: Path, plain: Path, side: int) -> None:
    """A class map with picture and polygons, by strips; in `plain` the same classes in a file without overviews."""
    from geoseg.io.class_maps import class_profile, finish_class_map
    from geoseg.io.cog import RowWriter, write_cog

    folder.mkdir()
    plain.mkdir()
    grid = GeoBox((side, side), Affine(PIXEL, 0, LEFT, 0, -PIXEL, TOP), CRS)
    rng = np.random.default_rng(0)
    colours = np.array([one.rgb for one in LEGEND.classes], np.uint8)
    codes_part, picture_part = plain / "big_classes.tif", plain / "picture.tif"
    picture = {"count": 4, "dtype": np.uint8, "picture": True}
    with RowWriter(codes_part, grid, **class_profile(LEGEND)) as codes, RowWriter(picture_part, grid, **picture) as pixels:
        for top in range(0, side, STRIP):
            row, col = np.ogrid[top : min(top + STRIP, side), :side]
            height = np.sin(row / 61.0) + np.sin(col / 53.0) + np.sin((row + col) / 211.0) + np.sin((row - 2 * col) / 509.0)
            strip = np.clip((height + 3) / 1.2, 0, len(LEGEND) - 1).astype(np.uint8)
            shade = rng.integers(0, 40, strip.shape, dtype=np.uint8)
            codes.append(strip[np.newaxis])
            pixels.append(np.stack([*(colours[strip, band] // 2 + shade for band in range(3)), np.full_like(strip, 255)]))
    finish_class_map(codes_part, folder / "big_classes.tif", LEGEND)
    write_cog(picture_part, folder / "big_image.tif", kind="picture")
    picture_part.unlink()
    write_outlines(folder / "big.gpkg", side)


def write_outlines(path: Path, side: int) -> None:
    """60,000 round polygons of 25 corners and of many sizes, evenly over the map, as `geoseg predict` writes its own."""
    import geopandas
    import shapely

    from geoseg.io.vectors import write_polygons

    rng = np.random.default_rng(1)
    x, y = LEFT + PIXEL * side * rng.random(POLYGONS), TOP - PIXEL * side * rng.random(POLYGONS)
    shapes = shapely.buffer(shapely.points(x, y), np.minimum(30 * rng.pareto(1.5, POLYGONS) + 30, 3000), quad_segs=6)
    codes = rng.integers(0, len(LEGEND), POLYGONS)
    columns = {"class_code": codes, "class_name": np.array(LEGEND.names)[codes], "area_m2": shapely.area(shapes)}
    write_polygons(path, geopandas.GeoDataFrame(columns, geometry=shapes, crs=CRS))


def tiles_of_a_walk(side: int) -> Walk:
    """The tiles that come into a screen which goes nearer, aside and out again; each once, for a browser keeps them."""
    from rasterio.warp import transform

    half = 20_037_508.342789244
    (x,), (y,) = transform(CRS, "EPSG:3857", [LEFT + PIXEL * side * 0.4], [TOP - PIXEL * side * 0.6])
    first = next(z for z in range(20) if 2 * half / 2**z * cos(0.785) < PIXEL * side)
    wanted: dict[tuple[int, int, int], None] = {}

    def look(z: int, aside: float) -> None:
        """Add the tiles of a screen, from its middle outwards; `aside` is in tiles of the nearest level."""
        tile = 2 * half / 2**z
        column, row = (x + half) / tile + aside * 2.0 ** (z - NEAREST), (half - y) / tile + aside / 2 * 2.0 ** (z - NEAREST)
        across = range(int(column - SCREEN[0] / 2), int(column + SCREEN[0] / 2) + 1)
        down = range(int(row - SCREEN[1] / 2), int(row + SCREEN[1] / 2) + 1)
        places = [(col, line) for line in down for col in across]
        for col, line in sorted(places, key=lambda place: abs(place[0] + 0.5 - column) + abs(place[1] + 0.5 - row)):
            wanted.setdefault((z, col, line))

    for z in range(first, NEAREST + 1):
        look(z, 0)
    for step in range(1, 9):
        look(NEAREST, step * 1.5)
    for z in range(NEAREST - 1, NEAREST - 4, -1):
        look(z, 12)
    return list(wanted)[:TILES]


def views(side: int) -> dict[str, dict[str, float]]:
    """What the browser says of its view when it asks for outlines: all of the map, and nearer."""
    from rasterio.warp import transform_bounds

    found = {}
    for name, share in (("whole map", 1.0), ("an eighth across", 1 / 8), ("a fortieth across", 1 / 40)):
        reach = PIXEL * side * share
        corner = LEFT + 0.4 * (PIXEL * side - reach), TOP - 0.4 * (PIXEL * side - reach)
        west, south, east, north = transform_bounds(CRS, "EPSG:4326", corner[0], corner[1] - reach, corner[0] + reach, corner[1])
        zoom = float(np.log2(2 * pi * 6_378_137 * cos(np.radians(north)) / 256 / (reach / 900)))
        found[name] = {"west": west, "south": south, "east": east, "north": north, "zoom": zoom}
    return found


# ---------------------------------------------------------------- below: who is asked


@contextmanager
def served(
    folder: Path, facts: dict[str, list[float]], name: str
) -> Iterator[Callable[[Sequence[str]], tuple[list[float], float, float, list[int]]]]:
    """The real command on a folder; yields what asks it for addresses: a pass, and the bytes of each answer."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    words = [sys.executable, "-c", COMMAND, "view", "--no-browser", str(folder)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    place = urlsplit(process.stdout.readline().strip())
    told = time.perf_counter() - began
    try:
        connections = threading.local()

        def get(path: str) -> tuple[float, int]:
            if not hasattr(connections, "one"):
                connections.one = http.client.HTTPConnection(place.hostname or "", place.port)
            start = time.perf_counter()
            connections.one.request("GET", f"/{path}")
            answer = connections.one.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise SystemExit(f"{path} was answered with {answer.status}: {body[:200]!r}")
            return time.perf_counter() - start, len(body)

        def ask(paths: Sequence[str]) -> tuple[list[float], float, float, list[int]]:
            with ThreadPoolExecutor(CONNECTIONS) as pool:
                start, used = time.perf_counter(), cpu_seconds(process.pid)
                found = list(pool.map(get, paths))
                took, used = time.perf_counter() - start, cpu_seconds(process.pid) - used
                return [seconds for seconds, _ in found], took, used, [size for _, size in found]

        ask(["about"])
        ready = time.perf_counter() - began
        yield ask
        facts.setdefault(f"{name}: address after s", []).append(told)
        facts.setdefault(f"{name}: first answer after s", []).append(ready)
        facts.setdefault(f"{name}: peak MB", []).append(peak_mb(process.pid))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def ask_peer(folder: Path, walk: Walk, facts: dict[str, list[float]]) -> list[tuple[Any, ...]]:
    """The same walks by rio-tiler in a process of its own."""
    words = [sys.executable, __file__, "--peer", str(folder)]
    told = json.loads(subprocess.run(words, input=json.dumps(walk), capture_output=True, text=True, check=True).stdout)
    facts.setdefault(f"{PEER}: peak MB", []).append(told["peak_mb"])
    return [tuple(one) for one in told["passes"]]


def peer(folder: Path) -> None:
    """Draw the tiles on standard input by rio-tiler alone, twice; print what it took as JSON."""
    from rio_tiler.errors import TileOutsideBounds
    from rio_tiler.io import Reader

    walk = json.load(sys.stdin)
    colours = LEGEND.colour_table()
    how: dict[str, dict[str, Any]] = {"classes": {"indexes": 1}, "imagery": {"indexes": (1, 2, 3), "resampling_method": "bilinear"}}
    passes = []
    for layer, (_, file) in LAYERS.items():

        def draw(tile: tuple[int, int, int], layer: str = layer, file: str = file) -> float:
            start = time.perf_counter()
            z, x, y = tile
            try:
                with Reader(str(folder / file)) as source:
                    source.tile(x, y, z, **how[layer]).render(img_format="PNG", colormap=colours if layer == "classes" else None)
            except TileOutsideBounds:
                pass
            return time.perf_counter() - start

        for state in ("cold", "warm"):
            with ThreadPoolExecutor(CONNECTIONS) as pool:
                start, used = time.perf_counter(), time.process_time()
                times = list(pool.map(draw, walk))
                passes.append((layer, state, times, time.perf_counter() - start, time.process_time() - used))
    print(json.dumps({"passes": passes, "peak_mb": peak_mb(os.getpid())}))


def peak_mb(process: int) -> float:
    """The most memory that a process has held so far, in 10^6 bytes."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def cpu_seconds(process: int) -> float:
    """What a process has used of all processors so far."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


# ---------------------------------------------------------------- below: what came out


def report(
    side: int,
    rounds: int,
    tiles: int,
    passes: dict[tuple[str, str, str], list[Pass]],
    facts: dict[str, list[float]],
    outlines: dict[str, list[tuple[float, int]]],
    farthest: list[float],
    first: int,
) -> str:
    """The figures in Markdown."""
    lines = [
        "# What the page of `geoseg view` costs",
        "",
        f"`python benchmarks/measure_view.py --side {side} --rounds {rounds}` on {time.strftime('%Y-%m-%d')}: {os.cpu_count()} cores of "
        f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, load {os.getloadavg()[2]:.1f} (15 minutes).",
        f"A class map of {side} x {side} pixels with its picture; {tiles} tiles, {CONNECTIONS} at once; all rounds together.",
        "",
        "| layer | who | pass | median ms | 95 % ms | tiles/s | CPU ms/tile |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for (layer, who, state), runs in sorted(passes.items()):
        times = np.concatenate([one for one, *_ in runs]) * 1000
        rate = statistics.median(len(one) / seconds for one, seconds, _ in runs)
        used = statistics.median(1000 * cpu / len(one) for one, _, cpu in runs)
        lines.append(f"| {layer} | {who} | {state} | {np.median(times):.0f} | {np.percentile(times, 95):.0f} | {rate:.0f} | {used:.0f} |")
    lines += ["", f"| outlines of {POLYGONS:,} polygons | median ms | bytes |", "| --- | ---: | ---: |"]
    for name, found in outlines.items():
        lines.append(f"| {name} | {statistics.median(seconds for seconds, _ in found) * 1000:.0f} | {found[0][1]:,} |")
    lines += ["", "| process | median |", "| --- | ---: |"]
    lines += [f"| {name} | {statistics.median(found):.{0 if 'MB' in name else 1}f} |" for name, found in facts.items()]
    lines += ["", "| one tile of the classes in a file without overviews | ms |", "| --- | ---: |"]
    lines += [f"| zoom {first - out} | {seconds * 1000:.0f} |" for out, seconds in enumerate(farthest)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=SIDE, help="pixels of the map each way")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peer", type=Path, metavar="FOLDER", help="let rio-tiler draw the tiles on standard input, and nothing else")
    given = parser.parse_args()
    if given.peer:
        peer(given.peer)
    else:
        main(given.side, given.rounds)
