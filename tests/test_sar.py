"""Linear power and decibels."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg.preprocess.sar import to_decibels, to_power


def test_decibels_and_power_are_each_others_inverse() -> None:
    power = np.array([1e-5, 0.01, 1.0, 250.0], dtype=np.float32)
    assert to_decibels(power).tolist() == pytest.approx([-50, -20, 0, 23.9794], abs=1e-4)
    assert np.allclose(to_power(to_decibels(power)), power, rtol=1e-5)


def test_power_below_the_floor_is_the_floor() -> None:
    assert to_decibels(np.array([0, -0.3, 1e-9], dtype=np.float32), 1e-4).tolist() == pytest.approx([-40, -40, -40], abs=1e-4)


def test_decibels_change_nothing_they_were_given() -> None:
    power = np.array([0.1, 0.0], dtype=np.float32)
    to_decibels(power)
    to_power(power)
    assert power.tolist() == pytest.approx([0.1, 0.0])
