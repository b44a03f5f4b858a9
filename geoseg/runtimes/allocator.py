"""What glibc's allocator is told, so that a map takes less memory; other C libraries are left alone."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
"""Numbers of glibc's settings (malloc.h)."""
_NEVER = 2**31 - 1
_HEAPS = 2


def share_heaps() -> None:
    """Have threads share two heaps: with one for each thread, what one thread frees is of no use to the others."""
    _call("mallopt", _M_ARENA_MAX, _HEAPS)


def keep_freed_memory() -> None:
    """Keep what is freed: a layer's activations would else go back to the system and be cleared again for the next."""
    _call("mallopt", _M_MMAP_MAX, 0)
    _call("mallopt", _M_TRIM_THRESHOLD, _NEVER)


def give_back_freed_memory() -> None:
    """Give what is free back to the system, as after a network was opened, which takes its weights several times."""
    _call("malloc_trim", 0)


def _call(name: str, *words: int) -> None:
    function: Any = getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
    if function is not None:  # other C libraries have none
        function(*words)
