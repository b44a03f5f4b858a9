"""For the reference pages: the examples in docstrings as blocks of code; Markdown would take `>>>` for quotations."""

from __future__ import annotations

import re
from typing import Any

import griffe


class ExamplesAsCode(griffe.Extension):
    """Puts fences around lines from `>>>` to the next empty one, in the docstrings of all that mkdocstrings shows."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each object that was read."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?ms)^>>> .*?(?=\n\n|\Z)", r"```pycon\n\g<0>\n```", obj.docstring.value)
