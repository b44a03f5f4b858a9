"""The network that all peers run, with its preparation."""

from __future__ import annotations

import json

import numpy as np
import segmentation_models_pytorch as smp
import torch
from contest import Contest
from numpy.typing import NDArray
from safetensors import safe_open

CLASSES = 5


def load_network(contest: Contest) -> tuple[torch.nn.Module, NDArray[np.float32], NDArray[np.float32]]:
    """The network, and mean and standard deviation (channel, 1, 1) of the stored numbers; windows that it sees are counted."""
    torch.set_num_threads(contest.threads)
    with safe_open(contest.weights, "pt") as file:
        header = file.metadata()
        state = {name: file.get_tensor(name) for name in sorted(file.keys())}
    mean, std = (np.array(json.loads(header[name]), np.float32)[:, None, None] for name in ("mean", "std"))
    if header["network"] == "stub":
        network: torch.nn.Module = torch.nn.Conv2d(len(mean), CLASSES, 1)
    else:
        network = smp.Unet("resnet18", encoder_weights=None, in_channels=len(mean), classes=CLASSES)
    network.load_state_dict(state)

    def count(_: torch.nn.Module, images: tuple[torch.Tensor]) -> None:
        contest.windows += images[0].shape[0]

    network.register_forward_pre_hook(count)
    return network.eval(), mean, std
