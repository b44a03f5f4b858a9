"""Files of weights as named tensors: safetensors, torch's own, and the constants of ONNX graphs; nothing in them is ever run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.errors import PackageError, require

if TYPE_CHECKING:
    import torch

ENDINGS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".onnx")
"""Of files that can be read."""
_WRAPPERS = ("state_dict", "model", "teacher")
"""Names under which a file of torch may hold the state beside other things, such as the optimiser's."""


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Name → tensor of a .safetensors file, of one of torch's (.pth, .pt, .ckpt, .bin), or of the constants of an .onnx.

    Torch's files are read as data only: one that would run code is refused. Where one holds a state beside other things, it is the state;
    states inside a state are named `outer.inner`. PackageError for what cannot be read so.
    """
    if not path.exists():
        raise PackageError(f"no such file: {path}; give a file of weights, {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    try:
        if path.suffix == ".safetensors":
            return dict(require("safetensors.torch", extra="train").load_file(path))
        if path.suffix == ".onnx":
            return _from_onnx(path)
        state = require("torch", extra="train").load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip, protobuf and safetensors each raise their own
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise PackageError(f"{path} cannot be read as tensors ({first}); fetch it again") from error
    for name in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    found = _flat(state) if isinstance(state, Mapping) else {}
    if not found:
        raise PackageError(f"{path} holds something else than named tensors; expected the state of a network")
    return found


def _flat(state: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    """All tensors, those of states inside by `outer.inner`; empty where there is anything else."""
    tensor_type = require("torch", extra="train").Tensor
    found: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if isinstance(value, Mapping):
            inner = _flat(value)
            if value and not inner:
                return {}
            found |= {f"{name}.{own}": tensor for own, tensor in inner.items()}
        elif isinstance(value, tensor_type):
            found[str(name)] = value
        else:
            return {}
    return found


def _from_onnx(path: Path) -> dict[str, torch.Tensor]:
    """The graph's constants; those of a matrix product, which have lost their names, are the weight of the layer that their node names."""
    onnx, torch = require("onnx", extra="train"), require("torch", extra="train")
    graph = onnx.load(path).graph
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in arrays and node.name.endswith("/MatMul"):
            name = node.name.strip("/").removesuffix("/MatMul").replace("/", ".")
            arrays[f"{name}.weight"] = arrays[node.input[1]].T
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
