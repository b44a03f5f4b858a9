"""Tables of a PostGIS database as features, through SQLAlchemy and geopandas: `postgresql://USER@HOST/DATABASE|layername=SCHEMA.TABLE`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from geoseg.errors import InputError, require

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from sqlalchemy import Connection

log = logging.getLogger(__name__)

_SCHEMES = ("postgresql://", "postgres://")
_SHOWN = 12
"""So many tables are named in a message."""
_TABLES = """
SELECT f_table_schema, f_table_name, f_geometry_column FROM geometry_columns
UNION ALL SELECT f_table_schema, f_table_name, f_geography_column FROM geography_columns ORDER BY 1, 2, 3
"""


def is_database(path: str | Path) -> bool:
    """Whether this is an address of a database, no file."""
    return str(path).startswith(_SCHEMES)


def read_table(path: str | Path) -> GeoDataFrame:
    """All rows of the one spatial table of a database, or of the one in `ADDRESS|layername=[SCHEMA.]TABLE`, views too.

    Rows come in the order of the primary key; a table without one is warned of, since it has no order of its own. The password stands in
    PGPASSWORD or ~/.pgpass, never in the address, which is written into reports: InputError where it does, where the database
    cannot be reached, has no PostGIS, or no such table (naming those there are).
    """
    address, _, named = str(path).partition("|layername=")
    if urlsplit(address).password is not None:
        shown = address.replace(f":{urlsplit(address).password}@", "@")
        raise InputError(
            f"the address {shown} was given with a password, which would be written into reports; put it in PGPASSWORD or ~/.pgpass"
        )
    sqlalchemy = require("sqlalchemy", extra="postgis")
    require("psycopg", extra="postgis")
    import geopandas  # takes most of a second to load

    engine = sqlalchemy.create_engine("postgresql+psycopg://" + address.partition("://")[2], connect_args={"client_encoding": "utf8"})
    try:
        with engine.connect() as connection:
            schema, table, column = _find_table(connection, address, named)
            quoted = ".".join(map(engine.dialect.identifier_preparer.quote_identifier, (schema, table)))
            keys = sqlalchemy.inspect(connection).get_pk_constraint(table, schema)["constrained_columns"]
            if not keys:
                log.warning("%s has no primary key, so its rows have no order; give label_order a column where features overlap", path)
            order = ", ".join(map(engine.dialect.identifier_preparer.quote_identifier, keys))
            rows = f"SELECT * FROM {quoted}" + (f" ORDER BY {order}" if keys else "")
            frame: GeoDataFrame = geopandas.read_postgis(sqlalchemy.text(rows), connection, geom_col=column)
            return frame
    except sqlalchemy.exc.SQLAlchemyError as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        raise InputError(
            f"{address} cannot be read ({said}); check the address, the password and that PostGIS is installed there"
        ) from error
    finally:
        engine.dispose()


def _find_table(connection: Connection, address: str, named: str) -> tuple[str, str, str]:
    """Schema, name and geometry column of the table that is meant."""
    sqlalchemy: Any = require("sqlalchemy", extra="postgis")
    tables: list[tuple[str, str, str]] = [(str(s), str(t), str(c)) for s, t, c in connection.execute(sqlalchemy.text(_TABLES))]
    names = [f"{schema}.{table}" for schema, table, _ in tables]
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    found = [one for one, name in zip(tables, names, strict=True) if not named or named in (name, one[1])]
    if not tables:
        raise InputError(f"{address} holds no table with geometries; load one, for example with: ogr2ogr -f PostgreSQL")
    if not found:
        raise InputError(f"{address} has no table {named!r} with geometries; it has {shown}")
    if len(found) > 1:
        raise InputError(f"{address} has several geometries that could be meant: {shown}; name a table: '{address}|layername={names[0]}'")
    return found[0]
