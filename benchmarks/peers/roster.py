"""Who takes part: what each one runs, and in which environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from environments import GEOSEG

CONTESTANTS = Path(__file__).resolve().parent / "contestants"
TILE, OVERLAP = 512, 64
"""Of all contestants, unless they show their own defaults."""
OWN_TILE, OWN_OVERLAP = 1024, 128
"""geoseg's own, by way of its model package."""


@dataclass(frozen=True)
class Contestant:
    """One way from a scene to a class map."""

    name: str
    """In the results, such as `geoai-predict` or `geoseg-openvino-int8`."""
    title: str
    environment: str
    script: str
    kind: Literal["peer", "geoseg", "forward"]
    """`forward` is a network alone, by which a runtime of geoseg is measured."""
    overlap: int = OVERLAP
    own_defaults: bool = False
    """Whether it can also run with tile and overlap of its own choice."""
    precision: str = "fp32"
    words: tuple[str, ...] = ()

    def command(
        self, python: Path, scene: Path, networks: Path, network: str, out: Path, *, threads: int, batch: int, own: bool
    ) -> list[str]:
        """What to run; `own` leaves tile and overlap to the library."""
        package = f"{network}{'-wide' if own else ''}{'-int8' if self.precision == 'int8' else ''}"
        weights = networks / (f"{network}.safetensors" if self.kind == "peer" else package)
        sizes = [] if own else ["--tile", str(TILE), "--overlap", str(self.overlap)]
        files = ["--scene", str(scene), "--weights", str(weights), "--out", str(out)]
        return [str(python), str(CONTESTANTS / self.script), *files, "--threads", str(threads), "--batch", str(batch), *sizes, *self.words]


def _peer(name: str, title: str, environment: str, script: str, *, overlap: int = OVERLAP, own_defaults: bool = False) -> Contestant:
    return Contestant(name, title, environment, script, "peer", overlap, own_defaults)


PEERS = (
    _peer("bare", "bare eager forward, no overlap", "bare", "bare_forward.py", overlap=0),
    _peer("torchgeo", "TorchGeo: gridded sampler, predictions put in place", "torchgeo", "with_torchgeo.py"),
    _peer("monai", "MONAI: SlidingWindowInferer, Gaussian", "monai", "with_monai.py", own_defaults=True),
    _peer("rastervision", "Raster Vision: smooth labels", "rastervision", "with_rastervision.py"),
    _peer("geoai-predict", "geoai: predict_geotiff", "geoai", "with_geoai_predict.py", own_defaults=True),
    _peer("terratorch", "TerraTorch: tiled_inference", "terratorch", "with_terratorch.py", own_defaults=True),
    _peer("geoai-semantic", "geoai: semantic_inference_on_geotiff", "geoai", "with_geoai_semantic.py", own_defaults=True),
)
RUNTIMES = {
    "onnx": ("ONNX Runtime", ("fp32", "int8")),
    "openvino": ("OpenVINO", ("fp32", "bf16", "int8")),
    "torch": ("torch", ("fp32", "bf16")),
}
"""geoseg's name of a runtime → its own name and its precisions; what this machine or the package does not have is skipped."""


def _ours(runtime: str, precision: str) -> tuple[Contestant, Contestant]:
    title, words = f"{RUNTIMES[runtime][0]} {precision}", ("--runtime", runtime, "--precision", precision)
    return (
        Contestant(
            f"forward-{runtime}-{precision}",
            f"network alone: {title}",
            GEOSEG,
            "geoseg_forward.py",
            "forward",
            precision=precision,
            words=words,
        ),
        Contestant(
            f"geoseg-{runtime}-{precision}", f"geoseg: {title}", GEOSEG, "with_geoseg.py", "geoseg", OVERLAP, True, precision, words
        ),
    )


ROSTER = (
    *PEERS,
    *(one for runtime, (_, precisions) in RUNTIMES.items() for precision in precisions for one in _ours(runtime, precision)),
)
