"""Run the comparison: every contestant in turn, each run a process of its own, round after round; then write the table and the chart.

    python benchmarks/peers/run.py [--size 4096] [--rounds 3] [--parts rounds wall own growth] [--only NAME ...]

Parts: `rounds`, one thread and one window at a time, for seconds of the processor and disagreement; `wall`, all cores and four windows
at a time, for time on the clock and peak memory; `own`, tile and overlap as each library chooses; `growth`, peak memory with scenes
of half, one and two times the size, by default with a network of one layer, so that the engines' own memory shows and hours are saved.

Figures are kept after each run in FOLDER/runs.json. A run that succeeded is not done again, so a comparison that was stopped goes
on; remove the file for a new one. Imports no numpy: a process's peak, as Linux tells it, is never below that of the one that began it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from environments import ENVIRONMENTS, GEOSEG, ROOT, environment_python
from roster import ROSTER, TILE, Contestant

HERE = Path(__file__).resolve().parent
PARTS = ("rounds", "wall", "own", "growth")
_WALL_BATCH = 4


@dataclass(frozen=True)
class Run:
    """One process to be measured; two that are equal are the same run."""

    part: str
    round: int
    contestant: Contestant
    size: int
    network: str
    threads: int
    batch: int

    @property
    def key(self) -> str:
        """Its name in runs.json and of the map that it writes."""
        return f"{self.part}-{self.round}-{self.contestant.name}-{self.size}"


@dataclass(frozen=True)
class Places:
    """Where everything lies."""

    work: Path
    envs: Path

    @property
    def networks(self) -> Path:
        """Weights and model packages."""
        return self.work / "networks"

    def scene(self, size: int) -> Path:
        """The scene of this size."""
        return self.work / f"scene_{size}.tif"

    def reference(self, size: int) -> Path:
        """The class map to compare with."""
        return self.work / f"reference_{size}.tif"

    def map(self, run: Run) -> Path:
        """The class map that a run writes."""
        return self.work / f"{run.key}.tif"

    def python(self, environment: str) -> Path | None:
        """None where the environment is missing."""
        return environment_python(self.envs, environment)


def planned(parts: Sequence[str], contestants: Sequence[Contestant], *, size: int, rounds: int, growth_network: str) -> Iterator[Run]:
    """All runs in their order: within a round each contestant once."""
    cores = os.cpu_count() or 1
    maps = [contestant for contestant in contestants if contestant.kind != "forward"]
    if "rounds" in parts:
        yield from (Run("rounds", which, contestant, size, "unet", 1, 1) for which in range(rounds) for contestant in contestants)
    if "wall" in parts:
        yield from (Run("wall", 0, contestant, size, "unet", cores, _WALL_BATCH) for contestant in maps)
    if "own" in parts:
        yield from (Run("own", 0, contestant, size, "unet", 1, 1) for contestant in maps if contestant.own_defaults)
    if "growth" in parts:
        sizes = (size // 2, size, 2 * size)
        yield from (
            Run("growth", 0, contestant, each, growth_network, cores, _WALL_BATCH)
            for each in sizes
            for contestant in maps
            if contestant.precision == "fp32" and (growth_network == "unet" or contestant.name != "geoseg-torch-fp32")  # as ONNX only
        )


def measure(command: Sequence[str], *, threads: int) -> dict[str, Any]:
    """Run a command: what it printed, seconds, peak resident memory in MB (10^6 bytes); or `failed` with its last words.

    Python may keep what it compiles, wherever this machine says that it shall not: only the first run pays for that, in its imports.
    """
    load, began = os.getloadavg()[0], time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=printed, stderr=said, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - began
        lines = [_last_line(stream) for stream in (printed, said)]
    if process.returncode:
        return {"failed": lines[1][:300]}
    total, peak = used.ru_utime + used.ru_stime, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    process_figures = {"process_cpu_s": total, "process_wall_s": wall, "peak_mb": peak, "load_before": load}
    return {**json.loads(lines[0]), **process_figures, "at": datetime.now(UTC).isoformat(timespec="seconds")}


def _last_line(stream: IO[str]) -> str:
    stream.seek(0)
    lines = [line.strip() for line in stream if line.strip()]
    return lines[-1] if lines else "nothing was said"


def perform(run: Run, places: Places) -> dict[str, Any]:
    """The figures of one run, and for the first that writes a map of its kind, where this differs from the reference."""
    contestant, out = run.contestant, places.map(run)
    python = environment_python(places.envs, contestant.environment)
    if python is None:
        return {"failed": f"there is no environment {contestant.environment!r}; make it with environments.py"}
    words = {"threads": run.threads, "batch": run.batch, "own": run.part == "own"}
    command = contestant.command(python, places.scene(run.size), places.networks, run.network, out, **words)
    figures = measure(command, threads=run.threads)
    if "failed" in figures or contestant.kind == "forward" or run.part in ("wall", "growth") or run.round:
        return figures
    figures["disagreement"] = compared(places, places.reference(run.size), out, contestant.overlap)
    fp32 = places.work / f"{run.part}-0-{contestant.name.rsplit('-', 1)[0]}-fp32-{run.size}.tif"
    if contestant.kind == "geoseg" and fp32 != out and fp32.exists():
        figures["against_fp32"] = compared(places, fp32, out, contestant.overlap)
    return figures


def compared(places: Places, reference: Path, out: Path, overlap: int) -> dict[str, Any]:
    """Where a map differs from another one."""
    command = [places.python(GEOSEG), HERE / "disagreement.py", reference, out, "--tile", TILE, "--overlap", overlap]
    found: dict[str, Any] = json.loads(subprocess.run([*map(str, command)], capture_output=True, text=True, check=True).stdout)
    return found


def prepare(places: Places, sizes: Iterable[int], reference_size: int) -> None:
    """Networks, scenes and the reference, where they are not there yet."""
    places.work.mkdir(parents=True, exist_ok=True)
    make = str(places.python(GEOSEG))
    if not (places.networks / "unet.safetensors").exists():
        _do("training the network", [make, HERE / "train.py", places.networks])
    for name in ("unet", "unet-wide"):
        _quantise(places, name)
    for size in sorted(set(sizes)):
        if not places.scene(size).exists():
            _do(f"making the scene of {size} x {size}", [make, HERE / "make_scene.py", places.scene(size), "--size", size])
    reference = places.reference(reference_size)
    if not reference.exists():
        files = ["--scene", places.scene(reference_size), "--weights", places.networks / "unet.safetensors", "--out", reference]
        _do("computing the reference", [places.python("bare"), HERE / "reference.py", *files, "--threads", os.cpu_count() or 1])


def _quantise(places: Places, name: str) -> None:
    """The package with an 8-bit network beside the other, calibrated on ground of another seed; without it, int8 is not run."""
    package, scene = places.networks / f"{name}-int8", places.work / "calibration.tif"
    if package.exists():
        return
    if not scene.exists():
        _do("making a scene to calibrate with", [places.python(GEOSEG), HERE / "make_scene.py", scene, "--size", 1024, "--seed", 1])
    export = [
        "-c",
        "from geoseg.cli import main; main()",
        "export",
        places.networks / name,
        "--int8",
        "--out",
        package,
        "--scenes",
        scene,
        "--sensor",
        "generic",
    ]
    print(f"quantising {name} ...", flush=True)
    subprocess.run([*map(str, [places.python(GEOSEG), *export])])


def _do(what: str, command: Sequence[Any]) -> None:
    print(f"{what} ...", flush=True)
    if subprocess.run([*map(str, command)]).returncode:
        raise SystemExit(f"{what} failed; see above")


def main(given: argparse.Namespace) -> None:
    """Prepare, run what is missing, keep the figures after each run, and write the table."""
    places = Places(given.work.resolve(), given.envs.resolve())
    for needed in (GEOSEG, "bare"):
        if places.python(needed) is None:
            raise SystemExit(f"there is no environment {needed!r} in {places.envs}; make it with environments.py")
    contestants = [one for one in ROSTER if not given.only or one.name in given.only]
    runs = list(planned(given.parts, contestants, size=given.size, rounds=given.rounds, growth_network=given.growth_network))
    prepare(places, (run.size for run in runs), given.size)
    kept = places.work / "runs.json"
    figures: dict[str, dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for number, run in enumerate(runs, 1):
        if "failed" not in figures.get(run.key, {"failed": "not yet"}):
            continue
        if run.round and "failed" in figures.get(replace(run, round=0).key, {}):
            continue
        facts = {"part": run.part, "round": run.round, "contestant": run.contestant.name, "size": run.size, "network": run.network}
        figures[run.key] = {**facts, "threads": run.threads, "batch": run.batch, **perform(run, places)}
        kept.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        print(f"{number}/{len(runs)} {run.key}: {said(figures[run.key])}", flush=True)
    tables = ["--results", given.results, "--chart", given.chart]
    _do("writing the table", [places.python(GEOSEG), HERE / "table.py", kept, "--envs", places.envs, *tables])


def said(figures: dict[str, Any]) -> str:
    """One run in a line."""
    if "failed" in figures:
        return f"not run: {figures['failed']}"
    return (
        f"{figures['cpu_s']:.1f} CPU s, {figures['process_wall_s']:.1f} s, {figures['peak_mb']:.0f} MB, load {figures['load_before']:.1f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=HERE / ".work", help="folder of scenes, networks, maps and runs.json")
    parser.add_argument("--envs", type=Path, default=ENVIRONMENTS, help="folder of the environments")
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of the scene; a multiple of 1024")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[one.name for one in ROSTER], help="these contestants alone")
    parser.add_argument("--growth-network", choices=["stub", "unet"], default="stub", help="one layer, or the network itself")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="folder of peers.json and peers.md")
    parser.add_argument("--chart", type=Path, default=ROOT / "docs" / "peers-memory.svg")
    main(parser.parse_args())
