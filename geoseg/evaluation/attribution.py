"""Which pixels of which input a network's answer comes from: integrated gradients and Grad-CAM, tile by tile onto the map's grid.

Explained is the sum of one class's score over the pixels of a tile that hold data, or, where no class is named, of the score of the class
that each pixel gets. Tiles overlap and are blended like scores.

* `gradients`: integrated gradients (Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", ICML 2017), from channels
  at the mean of the training data, which is also where there is no data, to the scene. What a pixel of a channel is given is how much
  of that sum it added; over a tile all of it adds up to the difference of the two sums.
* `gradcam`: Grad-CAM (Selvaraju et al., ICCV 2017) of the last features with the coarsest pixels, for the sum that Vinogradova et al.
  (2020) take for segmentation: of the scores before softmax where the map has that class. Brought to the map's pixels bilinearly; its
  numbers have no unit.

Both come from Captum and need the package's torch weights.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from geoseg.errors import InputError, PackageError, require
from geoseg.io.atomic import atomic
from geoseg.io.blocks import BlockWriter
from geoseg.io.cog import write_cog
from geoseg.io.opening import gdal_env
from geoseg.io.qgis import write_style
from geoseg.io.qgis_styles import ramp_qml
from geoseg.io.staging import Staging, check_free, move_results
from geoseg.mapping.plan import MapOptions, MapPlan, plan_map
from geoseg.mapping.rasters import Parts, join_strips, write_strips
from geoseg.mapping.rows import finished_strips
from geoseg.mapping.windows import area_of
from geoseg.models.package import ModelPackage, Output
from geoseg.runtimes.torch_runtime import scored_network
from geoseg.scene import Scene
from geoseg.settings import nearest

Method = Literal["gradients", "gradcam"]
Progress = Callable[[int, int], None]
"""Called with the finished and with all pixels."""

STEPS = 32
"""Points between the mean and the scene at which the gradient is taken."""
_AT_ONCE = 4
"""Of these points; memory grows with it."""
_ANY = (-1e30, 1e30)
_SIDE = 2048
_SHOWN_SHARE = 0.98


@dataclass(frozen=True)
class Attribution:
    """Where the answer came from."""

    files: dict[str, Path]
    """`gradients` (a band for each input channel, in units of score) or `gradcam` (one band); `report`: JSON."""
    facts: dict[str, Any]
    """Method, class, layer or steps, and of each band the mean and the mean size of its numbers."""
    warnings: tuple[str, ...]


class AttributionRuntime:
    """Stands where a network's runtime does, and gives attributions: band name → (batch, 1, row, col). One call at a time."""

    name, precision, device = "torch", "fp32", "cpu"

    def __init__(self, package: ModelPackage, method: Method, *, class_index: int | None = None, steps: int = STEPS) -> None:
        """PackageError for a package without torch weights; MissingExtraError where torch or Captum is not installed."""
        if package.weights is None or not package.architecture:
            raise PackageError(
                f"{package.path} has no torch weights, whose gradients --method {method} takes; leave it out to explain by occlusion"
            )
        self._torch, self._captum = require("torch", extra="explain"), require("captum.attr", extra="explain")
        self.version: str = self._torch.__version__
        self._method, self._class, self._steps, self._lock = method, class_index, steps, threading.Lock()
        self._output = _classes_of(package).name
        self._network = scored_network(package).requires_grad_(False)
        self.channels = len(package.preparation.channels)
        self.layer = _coarsest_layer(self._torch, self._network, self.channels, package.tile) if method == "gradcam" else None
        self.largest_gap = 0.0
        """By how much, of the difference that they should add up to, integrated gradients missed it at most."""

    @property
    def notes(self) -> tuple[str, ...]:
        """None."""
        return ()

    def __call__(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Attributions for images (batch, channel, row, col)."""
        with self._lock:  # Captum hooks itself into the network while it computes
            planes = np.concatenate([self._of_tile(self._torch.from_numpy(image[np.newaxis].copy())) for image in images])
        return {_band(number): planes[:, number : number + 1] for number in range(planes.shape[1])}

    def _of_tile(self, image: Any) -> NDArray[np.float32]:
        """(1, band, row, col) of an image (1, channel, row, col)."""
        torch, chosen = self._torch, self._chosen(image)
        if self._method == "gradients":
            integrated = self._captum.IntegratedGradients(self._summed)
            made, gap = integrated.attribute(
                image,
                baselines=0.0,
                additional_forward_args=(chosen,),
                n_steps=self._steps,
                internal_batch_size=_AT_ONCE,
                return_convergence_delta=True,
            )
            whole = float(made.abs().sum())
            self.largest_gap = max(self.largest_gap, float(gap.abs().max()) / whole if whole else 0.0)
        else:
            assert self.layer is not None
            cam = self._captum.LayerGradCam(self._summed, self.layer[1])
            coarse = cam.attribute(image.requires_grad_(), additional_forward_args=(chosen,), relu_attributions=True)
            made = torch.nn.functional.interpolate(coarse, size=image.shape[2:], mode="bilinear", align_corners=False)
        found: NDArray[np.float32] = made.detach().numpy().astype(np.float32)
        return found

    def _chosen(self, image: Any) -> Any:
        """(1, class, row, col) 1 for the score of each pixel with data that counts, else 0."""
        torch = self._torch
        with torch.no_grad():
            scores = self._network(image)[self._output]
        won = torch.zeros_like(scores).scatter_(1, scores.argmax(dim=1, keepdim=True), 1.0)
        chosen = won
        if self._class is not None:
            chosen = torch.zeros_like(scores)
            chosen[:, self._class] = won[:, self._class] if self._method == "gradcam" else 1.0
        return chosen * (image != 0).any(dim=1, keepdim=True)

    def _summed(self, images: Any, chosen: Any) -> Any:
        """(batch,) sum of the scores that count; for Grad-CAM of those before softmax, which hardly changes where a class is sure."""
        network = self._network if self._method == "gradients" else self._network.network
        return (network(images)[self._output] * chosen).sum(dim=(1, 2, 3))


def attribute(
    scene: Scene,
    package: ModelPackage,
    out: Path,
    *,
    method: Method,
    class_name: str | None = None,
    steps: int = STEPS,
    options: MapOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Attribution:
    """Write where `package`'s answer for `scene` comes from into the folder `out`: of one class, or of each pixel's own.

    `options.aoi` keeps that short: integrated gradients cost some 100 maps. Memory depends on the tile and the width, not on the height.
    Raises InputError for an unknown class and where results are there already, and what `AttributionRuntime` and `make_map` raise.
    """
    if steps < 1:
        raise InputError(f"--steps is {steps}; expected 1 or more")
    output = _classes_of(package)
    if class_name is not None and class_name not in output.legend.names:
        raise InputError(f"--class is {class_name!r}; {nearest(class_name, output.legend.names)}")
    index = None if class_name is None else output.legend.names.index(class_name)
    runtime = AttributionRuntime(package, method, class_index=index, steps=steps)
    given = replace(options or MapOptions(), picture=False, polygons=False, scores=False, threads=1)
    plan = plan_map(scene, package, given)
    channels = [channel.name for channel in package.preparation.channels]
    bands = channels if method == "gradients" else ["grad-cam"]
    names = {method: f"{scene.name}_{method}.tif", "report": f"{scene.name}_{method}.json"}
    check_free(out, [*names.values(), f"{scene.name}_{method}.qml"], overwrite=overwrite)
    outputs = tuple(Output(name=_band(number), kind="quantity", unit="score", range=_ANY) for number in range(len(bands)))
    changed = replace(plan, package=package.model_copy(update={"outputs": outputs}))
    with gdal_env(), Staging(out) as work:
        done = work / "done"
        parts = _made(changed, runtime, work / "parts", progress)
        rows = _joined(changed, parts, bands, done / names[method], work / "joined.tif")
        facts: dict[str, Any] = {
            "scene": scene.product_id or scene.name,
            "model": f"{package.name} sha256:{package.checksum}",
            "method": method,
            "class": class_name or "the class that each pixel gets",
            **({"layer": runtime.layer[0]} if runtime.layer else {"steps": steps, "largest_gap": runtime.largest_gap}),
            "bands": rows,
        }
        with atomic(done / names["report"]) as part:
            part.write_text(json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        move_results(done, out, last=names["report"])
    return Attribution({what: out / name for what, name in names.items()}, facts, plan.warnings)


def _classes_of(package: ModelPackage) -> Output:
    output = next((one for one in package.outputs if one.kind == "classes"), None)
    if output is None or package.preparation.calendar is not None:
        what = "maps no classes" if output is None else "makes one map of a series of dates"
        raise InputError(f"{package.title} {what}; explaining takes a model that maps the classes of single dates")
    return output


def _made(plan: MapPlan, runtime: AttributionRuntime, folder: Path, progress: Progress | None) -> Parts:
    parts, finished = Parts(folder, plan), 0
    sizes = {strip.number: strip.pixels for strip in plan.tiles.strips}
    with gdal_env(plan.cache_mb), closing(finished_strips(plan, runtime, area_of(plan))) as strips:
        for facts in write_strips(parts, strips):
            finished += sizes[facts.number]
            if progress is not None:
                progress(finished, plan.pixels)
    join_strips(parts, {})
    return parts


def _joined(plan: MapPlan, parts: Parts, bands: Sequence[str], out: Path, joined: Path) -> list[dict[str, Any]]:
    """Write all bands as one raster at `out` with its style; returns what each holds in sum."""
    sums, count, greatest = np.zeros((2, len(bands))), 0, []
    form: dict[str, Any] = {"count": len(bands), "dtype": np.float32, "nodata": float("nan"), "descriptions": tuple(bands)}
    with ExitStack() as stack:
        files = [stack.enter_context(rasterio.open(parts.path(_band(number)))) for number in range(len(bands))]
        writer = stack.enter_context(BlockWriter(joined, plan.geobox, **form))
        for rows, cols in _windows(plan.geobox.shape.yx):
            values = np.stack([file.read(1, window=Window.from_slices(rows, cols)) for file in files])
            seen = values[:, np.isfinite(values[0])]
            writer.write(rows, cols, values)
            count += seen.shape[1]
            sums += seen.sum(axis=1, dtype=np.float64), np.abs(seen).sum(axis=1, dtype=np.float64)
            if seen.size:
                greatest.append(float(np.quantile(np.abs(seen), _SHOWN_SHARE)))
    if not count:
        raise InputError(f"{plan.scene.source} has no valid pixel where it is to be explained; check --aoi")
    write_cog(joined, out, kind="continuous")
    most = max(greatest) or 1.0
    write_style(out, ramp_qml(value_range=(-most if len(bands) > 1 else 0.0, most)))
    return [{"name": name, "mean": total / count, "mean_size": size / count} for name, total, size in zip(bands, *sums, strict=True)]


def _windows(shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for top, left in product(range(0, shape[0], _SIDE), range(0, shape[1], _SIDE)):
        yield slice(top, min(top + _SIDE, shape[0])), slice(left, min(left + _SIDE, shape[1]))


def _coarsest_layer(torch: Any, network: Any, channels: int, tile: int) -> tuple[str, Any]:
    """Name and module of what makes the features with the fewest pixels, the last of several; those of one pixel do not count."""
    seen: list[tuple[int, str, Any]] = []

    def note(name: str, module: Any) -> Callable[[Any, Any, Any], None]:
        def noted(_module: Any, _given: Any, made: Any) -> None:
            if isinstance(made, torch.Tensor) and made.ndim == 4 and made.shape[-1] > 1:
                seen.append((made.shape[-1], name, module))

        return noted

    computing = [(name, one) for name, one in network.named_modules() if not isinstance(one, torch.nn.Identity)]
    hooks = [one.register_forward_hook(note(name, one)) for name, one in computing]
    try:
        with torch.no_grad():
            network(torch.zeros(1, channels, tile, tile))
    finally:
        for hook in hooks:
            hook.remove()
    least = min(width for width, _, _ in seen)
    _, name, module = [one for one in seen if one[0] == least][-1]
    return name, module


def _band(number: int) -> str:
    return f"band-{number}"
