"""pyogrio and pyarrow, loaded when they are first used: they take 60 MB, which a map without outlines need not have.

pyogrio is loaded without geopandas and pandas, which it only asks for their versions: they take most of a second. Everything of
it works as ever; what makes frames loads geopandas when it is called.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = ["pa", "pyogrio"]


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


class _LoadedWhenUsed(ModuleType):
    """A module that is imported when it is first asked for something, with stand-ins for others that it asks for in vain."""

    def __init__(self, name: str, *stand_ins: str) -> None:
        super().__init__(name)
        self._stand_ins = stand_ins

    def __getattr__(self, name: str) -> Any:
        with _stand_ins(*self._stand_ins):
            loaded = importlib.import_module(self.__name__)
        return getattr(loaded, name)


if TYPE_CHECKING:
    import pyarrow as pa
    import pyogrio
else:
    pa = _LoadedWhenUsed("pyarrow")
    pyogrio = _LoadedWhenUsed("pyogrio", "geopandas", "pandas")
