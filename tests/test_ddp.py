"""Two processes that learn together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from labelled_ground import write_ground

pytest.importorskip("torch")
pytest.importorskip("lightning")

import torch

HERE = Path(__file__).resolve().parent


@pytest.mark.slow
def test_two_processes_draw_each_window_once_and_end_with_the_same_weights(tmp_path: Path) -> None:
    write_ground(tmp_path)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(HERE / "two_processes.py"), str(tmp_path)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = (torch.load(tmp_path / f"process{rank}.pt", weights_only=True) for rank in (0, 1))
    for epoch, (mine, theirs) in enumerate(zip(one["drawn"], other["drawn"], strict=True)):
        assert sorted(mine + theirs) == list(range(epoch * 18, (epoch + 1) * 18)), "no duplicate and no hole"
        assert len(mine) == len(theirs) == 9
    assert len(one["drawn"]) == 2
    for name, tensor in one["weights"].items():
        assert torch.equal(tensor, other["weights"][name]), name
    assert torch.equal(one["confusion"], other["confusion"]), "both judge all of the ground, and find the same"
