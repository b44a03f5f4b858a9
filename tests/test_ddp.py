"""Two processes that learn together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from labelled_ground import write_ground

pytest.importorskip("torch")
pytest.importorskip("lightning")

import torch

HERE = Path(__file__).resolve().parent


def trained(folder: Path, *words: str) -> list[dict[str, Any]]:
    """What each of the two processes ended with."""
    write_ground(folder)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "two_processes.py"), str(folder), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"process{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("hard=0.5",)], ids=["plain", "hard examples"])
def test_two_processes_draw_each_window_once_and_end_with_the_same_weights(tmp_path: Path, words: tuple[str, ...]) -> None:
    one, other = trained(tmp_path, "own", *words)
    for epoch, (mine, theirs) in enumerate(zip(one["drawn"], other["drawn"], strict=True)):
        assert sorted(mine + theirs) == list(range(epoch * 18, (epoch + 1) * 18)), "no duplicate and no hole"
        assert len(mine) == len(theirs) == 9
    assert len(one["drawn"]) == 2
    assert one["places"] == other["places"]
    assert (one["places"][0] == one["places"][1]) == (not words), "hard examples move the second epoch's windows"
    for name, tensor in one["weights"].items():
        assert torch.equal(tensor, other["weights"][name]), name
    assert torch.equal(one["confusion"], other["confusion"]), "both judge all of the ground, and find the same"


@pytest.mark.slow
def test_with_a_sampler_of_lightnings_the_draws_would_not_be_ours(tmp_path: Path) -> None:
    one, other = trained(tmp_path, "replaced")
    epochs = [sorted(mine + theirs) for mine, theirs in zip(one["drawn"], other["drawn"], strict=True)]
    assert epochs != [list(range(18)), list(range(18, 36))]
