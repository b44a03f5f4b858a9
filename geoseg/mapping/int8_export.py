"""A package that also maps in 8-bit integers, with the proof of how well that agrees with 32 bits."""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoseg.errors import PackageError, require
from geoseg.mapping.drawn_tiles import Place, draw_tiles
from geoseg.mapping.parity import NetworkParity, compare
from geoseg.mapping.quantise import float_graph, quantise
from geoseg.models.package import CARD, INT8_ONNX, INT8_PARITY, ONNX, WEIGHTS, ModelDescription, ModelPackage, write_package
from geoseg.runtimes.open_runtime import open_runtime
from geoseg.scene import Scene

LEAST_AGREEMENT = 0.995
"""An int8 network that agrees with the fp32 one on a smaller share of the pixels is refused unless asked for all the same."""
SEED = 0
"""Of the tiles that are drawn."""


@dataclass(frozen=True)
class Int8Export:
    """A package with an int8 network, and how well that does."""

    package: ModelPackage
    parity: NetworkParity
    """fp32 against int8, on tiles that it was not calibrated with."""
    warnings: tuple[str, ...]
    """How the scenes fit the package, each one sentence."""


def export_int8(package: ModelPackage, scenes: Sequence[Scene], out: str | Path, *, tiles: int = 64, anyway: bool = False) -> Int8Export:
    """Write `package` once more to `out` (a folder or .zip), with an int8 network that is calibrated on these scenes.

    At most `tiles` tiles calibrate it, and as many others tell how far its map differs from the fp32 network's, which is written into the
    package and its card. Raises PackageError where fewer than 99.5 % of the pixels agree and not `anyway`, where the network cannot be
    quantised or `out` exists, and what `draw_tiles` raises.
    """
    if Path(out).exists():
        raise PackageError(f"{out} exists already; choose another name for the model package, or remove it")
    float_graph(package)
    calibration, others = draw_tiles(scenes, package, tiles, seed=SEED)
    graph = quantise(package, calibration)
    with tempfile.TemporaryDirectory(prefix="geoseg-int8-") as folder:
        tried = _write(package, Path(folder) / "package", {INT8_ONNX: graph})
        fp32, int8 = (open_runtime(tried, "onnx", precision=precision) for precision in ("fp32", "int8"))
        parity = compare(fp32, int8, package.outputs, others)
    if parity.agreement < LEAST_AGREEMENT and not anyway:
        raise PackageError(
            f"int8 maps too differently from fp32: {parity.figures()}; expected agreement on at least {100 * LEAST_AGREEMENT:g} %: "
            "calibrate with more of the ground it is for (--scenes, --tiles), keep fp32 or bf16, or write it all the same with --anyway"
        )
    facts = _facts(parity, scenes, calibration)
    report = (json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    made = _write(package, Path(out), {INT8_ONNX: graph, INT8_PARITY: report}, _card(parity, facts))
    warnings = dict.fromkeys(warning for place in calibration for warning in place.plan.warnings)
    return Int8Export(made, parity, tuple(warnings))


def _write(package: ModelPackage, out: Path, more: dict[str, bytes], card: str = "") -> ModelPackage:
    """The package with more files; those of the same name are replaced."""
    kept = {name: package.read(name) for name in package.checksums if name not in (CARD, ONNX, WEIGHTS, *more)}
    description = ModelDescription(**{name: getattr(package, name) for name in ModelDescription.model_fields})
    return write_package(out, description, onnx=package.onnx, weights=package.weights, others={**kept, **more}, card=card)


def _facts(parity: NetworkParity, scenes: Sequence[Scene], calibration: Sequence[Place]) -> dict[str, Any]:
    software = {name: str(require(name, extra="train").__version__) for name in ("onnx", "onnxruntime")}
    return {
        **parity.facts(),
        "least_agreement_percent": 100 * LEAST_AGREEMENT,
        "scenes": [scene.product_id or scene.name for scene in scenes],
        "calibration": {"tiles": len(calibration), "pixels_a_side": calibration[0].plan.tiles.tile, "seed": SEED},
        "machine": platform.machine(),
        "software": software,
    }


def _card(parity: NetworkParity, facts: dict[str, Any]) -> str:
    """The section of the model card, in Markdown."""
    calibration, scenes = facts["calibration"], ", ".join(facts["scenes"])
    side = calibration["pixels_a_side"]
    rows = [
        "| output | pixels | agreement | mean error of scores | largest | worst class, lost IoU |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in parity.outputs:
        worst = one.worst
        lost = "" if worst is None else f"{worst[0]}, {100 * (1 - worst[1]):.2f} points"
        cells = (
            one.output.name,
            f"{one.pixels:,}",
            f"{100 * one.agreement:.3f} %",
            f"{one.mean_error:.2g}",
            f"{one.largest_error:.2g}",
            lost,
        )
        rows.append("| " + " | ".join(cells) + " |")
    lines = [
        "## In 8-bit integers",
        "",
        f"Calibrated on {calibration['tiles']} tiles of {side} x {side} pixels of {scenes} and compared with the network in 32 bits on "
        f"{parity.tiles} others. That says how much the arithmetic changes the map there, not how good it is.",
        "",
        *rows,
        "",
        f"It took {1 / parity.speed_ratio:.2f} of the processor time of 32 bits, on one thread ({facts['machine']}).",
    ]
    return "\n".join(lines) + "\n"
