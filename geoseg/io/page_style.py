"""How geoseg's pages look: one style for the report of an evaluation and the page of `geoseg view`, in light and in dark."""

from __future__ import annotations

PAGE_STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --line: #ddd; --faint: #666; --blue: #3b7dd8; --warn: #fff3cd; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #17191c; --line: #3a3d42; --faint: #a0a4aa; --warn: #4a3f16; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; } .wide { overflow-x: auto; }
table { border-collapse: collapse; } th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } th:first-child, td:first-child { text-align: left; } .note { color: var(--faint); }
.warning { background: var(--warn); padding: .4rem .8rem; }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border: 1px solid var(--faint); }
"""
"""Colours by name, type, tables and swatches; what a page lays out itself comes after it."""
