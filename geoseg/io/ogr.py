"""pyogrio, loaded without geopandas and pandas, which it only asks for their versions: they take most of a second.

Everything of pyogrio works as ever; what makes frames loads geopandas when it is called.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

__all__ = ["pyogrio"]


@contextmanager
def _stand_ins(*names: str) -> Iterator[None]:
    """Inside this block, installed packages that are not loaded yet are empty modules that state their version."""
    placed = [made for name in names if name not in sys.modules and (made := _stand_in(name)) is not None]
    sys.modules.update({made.__name__: made for made in placed})
    try:
        yield
    finally:
        for made in placed:
            del sys.modules[made.__name__]


def _stand_in(name: str) -> ModuleType | None:
    made = ModuleType(name)
    try:
        vars(made)["__version__"] = version(name)
    except PackageNotFoundError:
        return None
    return made


with _stand_ins("geopandas", "pandas"):
    import pyogrio
