"""Published files of weights that were fetched before: tests run on them where they are, and say how to get them where not."""

from __future__ import annotations

from pathlib import Path

import pytest

from geoseg.backbones.published import get_published
from geoseg.io.fetch import verify
from geoseg.models.published_encoder import weights_path


def weights_at_hand(name: str) -> Path:
    """The published file of this network, the very one; the test is skipped where it was never fetched here."""
    network = get_published(name)
    path = weights_path(network)
    if not path.exists():
        pytest.skip(f"the weights of {name} are not on this machine; geoseg models fetch {name} -o ENCODER brings them")
    assert network.sha256 is not None, "only a file with a checksum is known to be the published one"
    verify(path, network.sha256)
    return path
