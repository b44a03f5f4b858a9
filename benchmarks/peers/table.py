"""The comparison's figures as Markdown, as a chart of peak memory against scene size, and as one JSON file.

    python benchmarks/peers/table.py RUNS.json [--envs FOLDER] [--results FOLDER] [--chart FILE]

Seconds are medians over the rounds, with the least and the greatest; what a contestant imports is not counted. Writes
benchmarks/results/peers.json and peers.md, and docs/peers-memory.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from environments import ENVIRONMENTS, ROOT, environment_python
from make_scene import CLASSES
from roster import OVERLAP, OWN_OVERLAP, OWN_TILE, ROSTER, TILE, Contestant

PACKAGES = ("torch", "rasterio", "torchgeo", "monai", "rastervision", "geoai-py", "terratorch", "geoseg", "onnxruntime", "openvino")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
Figures = Mapping[str, Any]


class Runs:
    """What was measured, by contestant, part and size."""

    def __init__(self, figures: Iterable[Figures]) -> None:
        self.all = list(figures)

    def of(self, contestant: Contestant, part: str, size: int | None = None) -> list[Figures]:
        """Runs that succeeded, in the order of their rounds."""
        wanted = (contestant.name, part)
        return [
            run for run in self.all if (run["contestant"], run["part"]) == wanted and "failed" not in run and size in (None, run["size"])
        ]

    @property
    def parts(self) -> set[str]:
        """Parts of which anything was run."""
        return {run["part"] for run in self.all}


def cpu_seconds(run: Figures) -> float:
    """Of the whole process less what it imported; of a network alone, of its calls."""
    alone = str(run["contestant"]).startswith("forward-")
    return float(run["cpu_s"] if alone else run["process_cpu_s"] - run["import_cpu_s"])


def markdown(runs: Runs, facts: Mapping[str, Any]) -> str:
    """All tables."""
    parts = [_heading(facts), _main_table(runs), _reach_table(runs), _precision_table(runs)]
    parts += [_own_table(runs)] if "own" in runs.parts else []
    parts += [_growth_table(runs)] if "growth" in runs.parts else []
    return "\n\n".join(part for part in (*parts, _not_run(runs)) if part) + "\n"


def _heading(facts: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    machine = f"{facts['machine']['processor']}, {facts['machine']['cores']} cores ({', '.join(facts['machine']['flags'])})"
    return f"Measured from {facts['from']} to {facts['to']} on {machine}, {facts['machine']['memory_gb']:.0f} GB of memory. {versions}."


def _main_table(runs: Runs) -> str:
    head = [
        "",
        "windows",
        "CPU s",
        "least–most",
        "CPU s/Mpx",
        "imports",
        "wall s",
        "peak MB",
        "differs %",
        "at seams %",
        "away %",
        "at border %",
    ]
    rows = []
    for contestant in ROSTER:
        rounds, walls = runs.of(contestant, "rounds"), runs.of(contestant, "wall")
        if not rounds or contestant.kind == "forward":
            continue
        seconds, first = [cpu_seconds(run) for run in rounds], rounds[0]
        cells = [contestant.title, f"{first['windows'] or '–'}", f"{median(seconds):.1f}", f"{min(seconds):.1f}–{max(seconds):.1f}"]
        cells += [f"{median(seconds) / (first['size'] ** 2 / 1e6):.2f}", f"{median(run['import_cpu_s'] for run in rounds):.1f}"]
        cells += [f"{walls[0]['process_wall_s']:.1f}", f"{walls[0]['peak_mb']:.0f}"] if walls else ["–", "–"]
        rows.append([*cells, *_shares(first)])
    note = f"Tiles of {TILE} pixels, overlap {OVERLAP}. CPU s: one thread, one window at a time; wall s and peak MB: all cores."
    return f"{note}\n\n{_table(head, rows)}"


def _reach_table(runs: Runs) -> str:
    rows = []
    for contestant in (one for one in ROSTER if one.kind == "geoseg"):
        alone = next(one for one in ROSTER if one.name == contestant.name.replace("geoseg-", "forward-"))
        pairs = list(zip(runs.of(contestant, "rounds"), runs.of(alone, "rounds"), strict=False))
        if pairs:
            ratios = [cpu_seconds(whole) / cpu_seconds(network) for whole, network in pairs]
            cells = [f"{median(cpu_seconds(pair[which]) for pair in pairs):.1f}" for which in (1, 0)]
            rows.append([contestant.title, *cells, f"{median(ratios):.3f}", f"{min(ratios):.3f}–{max(ratios):.3f}"])
    head = ["", "network alone, CPU s", "scene to map, CPU s", "ratio", "least–most"]
    return f"The whole of geoseg against its network alone over the same windows, round by round:\n\n{_table(head, rows)}" if rows else ""


def _precision_table(runs: Runs) -> str:
    found = [(one, run) for one in ROSTER for run in runs.of(one, "rounds")[:1] if "against_fp32" in run]
    if not found:
        return ""
    rows = [
        [one.title, *(f"{100 * share:.3f}" for share in (run["against_fp32"]["all"], *run["against_fp32"]["by_class"]))]
        for one, run in found
    ]
    return f"Less precise maps against the same runtime's at fp32, % of the pixels that differ:\n\n{_table(['', 'all', *CLASSES], rows)}"


def _own_table(runs: Runs) -> str:
    head = ["", "windows", "CPU s", "differs %", "at seams %", "away %", "at border %"]
    rows = []
    for contestant in ROSTER:
        for run in runs.of(contestant, "own"):
            rows.append([contestant.title, f"{run['windows'] or '–'}", f"{cpu_seconds(run):.1f}", *_shares(run)])
    note = f"Tile and overlap as each library chooses (geoseg's model package: {OWN_TILE} and {OWN_OVERLAP}); seams are counted where"
    return f"{note} those of tile {TILE} would be:\n\n{_table(head, rows)}"


def _growth_table(runs: Runs) -> str:
    sizes = sorted({run["size"] for run in runs.all if run["part"] == "growth"})
    network = next(run["network"] for run in runs.all if run["part"] == "growth")
    rows = []
    for contestant in ROSTER:
        peaks = [run["peak_mb"] for size in sizes for run in runs.of(contestant, "growth", size)]
        if len(peaks) == len(sizes):
            more = (peaks[-1] - peaks[-2]) / ((sizes[-1] ** 2 - sizes[-2] ** 2) / 1e6)
            rows.append([contestant.title, *(f"{peak:.0f}" for peak in peaks), f"{more:.1f}"])
    what = "a network of one layer, so that the engine's own memory shows" if network == "stub" else "the network itself"
    head = ["", *(f"{size} x {size}" for size in sizes), "MB for each further Mpx"]
    return f"Peak memory in MB with {what}, all cores:\n\n{_table(head, rows)}"


def _not_run(runs: Runs) -> str:
    names: dict[str, dict[str, None]] = {}
    for run in runs.all:
        if "failed" in run:
            names.setdefault(run["failed"].removeprefix("geoseg.errors.PackageError: ").removeprefix("geoseg: "), {})[run["contestant"]] = (
                None
            )
    return "\n".join(f"- not run: {', '.join(which)}: {why}" for why, which in names.items())


def _shares(run: Figures) -> list[str]:
    found = run.get("disagreement")
    return ["–"] * 4 if found is None else [f"{100 * found[where]:.4f}" for where in ("all", "seam", "away", "border")]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(runs: Runs, out: Path) -> None:
    """Peak memory against scene size, one line for each contestant; of geoseg one runtime each."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "geoseg"  # the same figures give the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for contestant in ROSTER:
        points = sorted((run["size"], run["peak_mb"] / 1000) for run in runs.of(contestant, "growth"))
        if len(points) > 1 and (contestant.kind == "peer" or contestant.name.endswith("-fp32")):
            ours = contestant.kind == "geoseg"
            megapixels = [size**2 / 1e6 for size, _ in points]
            style = {"linewidth": 2.5, "zorder": 3} if ours else {"linewidth": 1.2, "linestyle": "--"}
            axes.plot(megapixels, [peak for _, peak in points], marker="o", label=contestant.title, **style)
    axes.set(xlabel="scene in Mpx", ylabel="peak memory in GB", ylim=(0, None), title="Peak memory of mapping one scene")
    axes.legend(fontsize="small", frameon=False)
    axes.grid(alpha=0.3)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None})


def measured_with(runs: Runs, envs: Path) -> dict[str, Any]:
    """When, with what, and on which machine."""
    moments = sorted(run["at"] for run in runs.all if "at" in run)
    versions: dict[str, str] = {}
    ask = "import importlib.metadata as m; print(*(f'{d.name.lower()}=={d.version}' for d in m.distributions()))"
    for environment in sorted({contestant.environment for contestant in ROSTER}):
        if (python := environment_python(envs, environment)) is not None:
            found = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
            there = dict(one.split("==", 1) for one in found)
            versions |= {name: there[name] for name in PACKAGES if name in there and name not in versions}
    return {"from": moments[0][:16], "to": moments[-1][:16], "machine": _machine(), "versions": versions}


def _machine() -> dict[str, Any]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = [flag for flag in FLAGS if flag in said.get("flags", "").split()]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "processor": said.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": memory,
        "flags": flags,
        "system": platform.system(),
        "python": platform.python_version(),
    }


def main(given: argparse.Namespace) -> None:
    """Write all three."""
    figures = json.loads(given.runs.read_text(encoding="utf-8"))
    runs = Runs(figures.values())
    facts = measured_with(runs, given.envs)
    text = markdown(runs, facts)
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "peers.json").write_text(json.dumps({**facts, "runs": runs.all}, indent=1) + "\n", encoding="utf-8")
    (given.results / "peers.md").write_text(text, encoding="utf-8")
    if "growth" in runs.parts:
        draw(runs, given.chart)
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--envs", type=Path, default=ENVIRONMENTS)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--chart", type=Path, default=ROOT / "docs" / "peers-memory.svg")
    main(parser.parse_args())
