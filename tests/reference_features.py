"""Features that the authors' own networks made of an input that can be made anywhere, as files beside the tests hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

EVERY = 16
"""Of the features of a place, one in so many is kept."""


def cases(name: str) -> list[Any]:
    """The cases of `NAME_features.json`; `made_with` there says how they were made."""
    held: list[Any] = json.loads((Path(__file__).parent / f"{name}_features.json").read_text(encoding="utf-8"))["cases"]
    return held


def prepared(
    roles: Sequence[str], edge: int, level: Mapping[str, tuple[float, float]], statistics: Mapping[str, tuple[float, float]]
) -> torch.Tensor:
    """(1, channel, row, col) as a network gets it: waves of `level`, a band's mean and height, then less its mean and over its spread."""
    channel, row, col = np.meshgrid(np.arange(len(roles)), np.arange(edge), np.arange(edge), indexing="ij")
    waves = np.sin(1 + 0.9 * channel + 0.37 * row + 0.53 * col + 0.05 * row * col)
    plain = [role.partition("@")[0] for role in roles]
    (middle, height), (mean, std) = (np.array([table[role] for role in plain], float).T[:, :, None, None] for table in (level, statistics))
    physical = middle + height * waves
    for place, role in enumerate(plain):
        if role == "dynamic_world":
            physical[place] = np.floor(physical[place])
    return torch.from_numpy(((physical - mean) / std).astype(np.float32))[None]


def difference(backbone: nn.Module, image: torch.Tensor, case: Mapping[str, Any]) -> float:
    """How far any number of the last level that the case holds is from it, at most."""
    with torch.no_grad():
        features = backbone.eval()(image)[-1][0]
    kept = torch.stack([features[::EVERY, row, col] for row, col in case["places"]])
    apart = (kept - torch.tensor(case["features"])).abs().max()
    return max(float(apart), abs(float(features.abs().mean()) - case["mean_abs"]))
