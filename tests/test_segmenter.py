"""Networks by description, their losses, and their files."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("segmentation_models_pytorch")

from geoseg.data.windows import UNLABELLED  # noqa: E402
