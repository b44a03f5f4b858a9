"""The local page of maps and scenes: `shown.py` finds what there is, `tiles.py` draws it, `server.py` hands it to the browser."""
