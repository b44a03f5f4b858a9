"""SpaceSense-Bench: do the poses of a trajectory belong to its images, and its depths to its lidar?

The published set (arXiv 2603.09320) has trajectories whose poses come one image late: the distance of each line of
`pose_ground_truth.csv` is that of the image before. A check that only looks for gross ratios finds their first image and misses the
rest. So this one compares the distance of each pose with the middle depth of what its image shows, in place and moved by one image, and
depths with the lidar's points. Trajectories lie as published: `SAT/SAT/TRAJECTORY/{image,seg,depth,lidar}/TIME.{png,png,npz,asc}`.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError

POSES = "pose_ground_truth.csv"
BACKGROUND_MM = 10_000_000
FOCAL_PX, CENTRE_PX = 1097.99, 512.0
"""Of the camera: 50 degrees over 1024 pixels."""
DISTANCE_COLUMN = 15
"""Of the poses, counted from 1, where no column is named for it."""
LARGEST_ERROR = 0.25
"""Share of the depth that a distance may be off: a satellite is some metres deep, and its middle is not its surface."""
_CLEARLY = 0.5
"""Poses are late where moving them by one image leaves less than this share of the error."""


@dataclass(frozen=True)
class TrajectoryCheck:
    """What was found of one trajectory."""

    name: str
    """`SAT/TRAJECTORY`."""
    frames: int
    error: float
    """Mean share of the depth by which the poses' distances are off."""
    error_moved: float
    """The same with each image held against the pose of the next line; NaN with a single image."""
    depth_less_lidar_m: float
    """Median of depth less the lidar's distance where both see something; NaN without lidar."""
    problems: tuple[str, ...]
    """What is wrong, each one sentence; empty where nothing is."""


def check_trajectories(folder: Path) -> list[TrajectoryCheck]:
    """All trajectories under a folder, in the order of their names.

    InputError where there is none, or poses and images are not of the same number.
    """
    found = sorted(path.parent for path in folder.rglob(POSES))
    if not found:
        raise InputError(f"{folder} holds no {POSES}; give the folder into which the archives of SpaceSense-Bench were unpacked")
    return [check_trajectory(path) for path in found]


def check_trajectory(folder: Path) -> TrajectoryCheck:
    """One trajectory: the folder with its poses."""
    name = f"{folder.parent.name}/{folder.name}"
    frames = sorted((folder / "depth").glob("*.npz"))
    distances = read_distances(folder / POSES)
    if not frames or len(frames) != len(distances):
        raise InputError(f"{folder} has {len(frames)} depths and {len(distances)} poses; unpack the trajectory anew")
    depths = [read_depth_m(path) for path in frames]
    middles = np.array([float(np.nanmedian(depth)) if np.isfinite(depth).any() else np.nan for depth in depths])
    error = _off(distances, middles)
    moved = _off(distances[1:], middles[:-1]) if len(frames) > 1 else float("nan")
    offset = _median([_depth_less_lidar(depth, folder / "lidar" / f"{path.stem}.asc") for depth, path in zip(depths, frames, strict=True)])
    return TrajectoryCheck(name, len(frames), error, moved, offset, tuple(_problems(name, error, moved)))


def read_distances(path: Path) -> NDArray[np.float64]:
    """(image,) metres from the camera to the satellite, by the column whose name has `distance`, else by the fifteenth."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    named = [at for at, title in enumerate(header) if "distance" in title.lower()]
    column = named[0] if named else DISTANCE_COLUMN - 1
    try:
        return np.array([float(row[column]) for row in rows if row])
    except (IndexError, ValueError) as error:
        raise InputError(f"{path} has no number in column {column + 1} of each line ({error}); unpack the trajectory anew") from error


def read_depth_m(path: Path) -> NDArray[np.float64]:
    """(row, col) metres from the camera; NaN for the background."""
    with np.load(path, allow_pickle=False) as stored:
        if "depth" not in stored:
            raise InputError(f"{path} has no array 'depth'; it has {', '.join(stored) or 'none'}")
        millimetres = stored["depth"]
    return np.where(millimetres == BACKGROUND_MM, np.nan, millimetres / 1000.0)


def project(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """(point, 2) row and column of lidar points (point, 3), x forward, in metres, as the set's own tools see them."""
    ahead = points[:, :1]
    places = FOCAL_PX * points[:, [2, 1]] / ahead + CENTRE_PX
    return np.floor(places).astype(np.int64)


def _off(distances: NDArray[np.float64], depths: NDArray[np.float64]) -> float:
    """Mean share by which distances are off, of images that show something."""
    seen = np.isfinite(depths)
    return float(np.mean(np.abs(distances[seen] - depths[seen]) / depths[seen])) if seen.any() else float("nan")


def _depth_less_lidar(depth: NDArray[np.float64], path: Path) -> float:
    if not path.is_file():
        return float("nan")
    points = np.loadtxt(path, delimiter=",", ndmin=2, usecols=(0, 1, 2)) if path.stat().st_size else np.empty((0, 3))
    points = points[points[:, 0] > 0]
    places = project(points)
    inside = ((places >= 0) & (places < depth.shape)).all(axis=1)
    differences = depth[tuple(places[inside].T)] - points[inside, 0]
    return _median(differences.tolist())


def _median(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.median(known)) if known else float("nan")


def _problems(name: str, error: float, moved: float) -> list[str]:
    if np.isnan(error):
        return [f"{name}: no image shows anything, so nothing can be compared"]
    if np.isfinite(moved) and moved < _CLEARLY * error and error > moved + 0.02:
        return [
            f"{name}: poses come one image late: distances are off by {error:.0%} of the depth, and by {moved:.0%} where each image takes "
            "the pose of the next line; move them, or take the corrected poses"
        ]
    if error > LARGEST_ERROR:
        return [f"{name}: distances are off by {error:.0%} of the depth, in place and moved; leave the trajectory out"]
    return []
