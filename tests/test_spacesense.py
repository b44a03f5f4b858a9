"""Trajectories in SpaceSense-Bench's layout: late poses are named, also where only the shift gives them away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geoseg.data.spacesense import BACKGROUND_MM, check_trajectories, check_trajectory, project, read_depth_m
from geoseg.errors import InputError

PUBLISHED = ((7.75, 79.0, 71.0, 63.4), (79.2, 71.3, 64.1, 56.5))
"""Distances and middle depths of ACE's approach_front as measured in the published sample, and one more of the same kind."""


def trajectory(folder: Path, distances: tuple[float, ...], depths: tuple[float, ...], *, offset: float = 0.9, named: bool = False) -> Path:
    for part in ("depth", "lidar"):
        (folder / part).mkdir(parents=True)
    for at, metres in enumerate(depths):
        plane = np.full((1024, 1024), BACKGROUND_MM, np.int32)
        plane[400:600, 400:600] = round(metres * 1000)
        np.savez_compressed(folder / "depth" / f"{at:05d}.npz", depth=plane)
        ahead = metres - offset
        sides = np.linspace(-0.05, 0.05, 5) * ahead
        points = [f"{ahead},{y},{z}" for y in sides for z in sides] + [f"{ahead},{ahead * 2},0", "-5,0,0"]
        (folder / "lidar" / f"{at:05d}.asc").write_text("\n".join(points) + "\n")
    titles = [f"c{number}" for number in range(1, 30)]
    column = 20 if named else 14
    titles[column] = "distance_m" if named else titles[column]
    lines = [",".join(titles)]
    for metres in distances:
        row = ["0"] * 29
        row[column] = str(metres)
        lines.append(",".join(row))
    (folder / "pose_ground_truth.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_poses_that_come_one_image_late_are_named(tmp_path: Path) -> None:
    found = check_trajectory(trajectory(tmp_path / "ACE" / "approach_front", *PUBLISHED))
    assert len(found.problems) == 1
    assert "ACE/approach_front: poses come one image late" in found.problems[0]
    assert found.error_moved < 0.02 < found.error


def test_the_shift_is_found_where_no_single_ratio_is_gross(tmp_path: Path) -> None:
    depths = (79.2, 71.3, 64.1, 56.5, 50.0)
    found = check_trajectory(trajectory(tmp_path / "ACE" / "gentle", (87.0, *depths[:-1]), depths))
    assert "one image late" in found.problems[0]
    assert found.error < 0.25


def test_poses_in_place_are_left_alone(tmp_path: Path) -> None:
    for name, distances, depths in (("orbit_xy", (15.0, 15.0, 15.0), (15.2, 15.1, 15.2)), ("near", (3.0, 3.1), (3.4, 3.58))):
        assert check_trajectory(trajectory(tmp_path / "ACE" / name, distances, depths)).problems == ()


def test_distances_that_fit_nowhere_are_named_as_such(tmp_path: Path) -> None:
    found = check_trajectory(trajectory(tmp_path / "ACE" / "lost", (3.0, 90.0, 20.0), (50.0, 40.0, 45.0)))
    assert "in place and moved" in found.problems[0]


def test_depth_is_compared_with_the_lidar_where_both_see_something(tmp_path: Path) -> None:
    found = check_trajectory(trajectory(tmp_path / "ACE" / "orbit", (15.0,) * 3, (15.2, 15.1, 15.2), offset=0.91))
    assert found.depth_less_lidar_m == pytest.approx(0.91, abs=1e-3)


def test_a_point_is_projected_as_the_sets_own_tools_do() -> None:
    assert project(np.array([[10.0, 1.0, -2.0]])).tolist() == [[int(1097.99 * -0.2 + 512), int(1097.99 * 0.1 + 512)]]


def test_the_distance_is_found_by_its_name_or_its_column(tmp_path: Path) -> None:
    for named in (True, False):
        folder = trajectory(tmp_path / "ACE" / f"named_{named}", (15.0, 15.0), (15.2, 15.1), named=named)
        assert check_trajectory(folder).error < 0.02


def test_all_trajectories_are_checked_and_broken_ones_are_one_sentence(tmp_path: Path) -> None:
    for satellite, name in (("B", "two"), ("A", "one")):
        trajectory(tmp_path / satellite / satellite / name, (15.0,), (15.2,))
    assert [one.name for one in check_trajectories(tmp_path)] == ["A/one", "B/two"]
    with pytest.raises(InputError, match="holds no pose_ground_truth"):
        check_trajectories(tmp_path / "A" / "A" / "one" / "depth")
    next((tmp_path / "A").rglob("*.npz")).unlink()
    with pytest.raises(InputError, match="0 depths and 1 poses"):
        check_trajectories(tmp_path)
    np.savez(tmp_path / "other.npz", heights=np.zeros((2, 2)))
    with pytest.raises(InputError, match="no array 'depth'; it has heights"):
        read_depth_m(tmp_path / "other.npz")
