"""Classes by the names that people type."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from geoseg.errors import InputError


def find_name(wanted: str, names: Iterable[str], what: str) -> str:
    """The one of `names` that is meant, whatever its case; InputError names the nearest, or all where none is near."""
    known = {name.casefold(): name for name in names}
    if wanted.casefold() in known:
        return known[wanted.casefold()]
    near = difflib.get_close_matches(wanted.casefold(), known, n=1)
    hint = f"did you mean {known[near[0]]!r}?" if near else f"expected one of: {', '.join(known.values())}"
    raise InputError(f"no {what} is called {wanted!r}; {hint}")
