"""The index of a folder archive: one SQLite row an instance, and the queries over it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields

from residency.archive import Level
from residency.archives.part10 import Row

SCHEMA = 1
"""Raised with every change of the table; an index of another number is made anew from the files."""

_COLUMNS = tuple(field.name for field in fields(Row))
QUERIED = ("patient_id", "study_uid", "series_uid", "sop_uid", "sop_class", "modality", "content_label")
_KEYS = {
    Level.STUDY: ("patient_id", "study_uid"),
    Level.SERIES: ("patient_id", "study_uid", "series_uid", "modality"),
    Level.INSTANCE: ("sop_uid",),
}
_SHOWN = {
    Level.STUDY: "patient_id, study_uid, '', '', '', '', max(study_description), '', count(*)",
    Level.SERIES: "patient_id, study_uid, series_uid, '', '', modality, max(series_description), '', count(*)",
    Level.INSTANCE: "patient_id, study_uid, series_uid, sop_uid, sop_class, modality, series_description, "
    "content_label, 1",
}


def question(level: Level, asked: Sequence[str]) -> str:
    """The query in SQL: only column names of our own stand in the text, every value is bound by its name.

    A filter on what identifies a row of this level acts on the row; any other keeps the rows that hold a match.
    """
    keys = ", ".join(_KEYS[level])
    own = QUERIED if level is Level.INSTANCE else _KEYS[level]
    conditions = [f"{name} = :{name}" for name in asked if name in own]
    if any(name not in own for name in asked):
        every = " AND ".join(f"{name} = :{name}" for name in asked)
        conditions.append(f"({keys}) IN (SELECT {keys} FROM instances WHERE {every})")  # noqa: S608
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT {_SHOWN[level]} FROM instances{where} GROUP BY {keys}"  # noqa: S608


def make_tables(index: sqlite3.Connection) -> None:
    """An empty table in place of what is there; within the caller's transaction."""
    index.execute("DROP TABLE IF EXISTS instances")
    others = "".join(f", {name} TEXT NOT NULL" for name in _COLUMNS if name != "sop_uid")
    index.execute(f"CREATE TABLE instances (sop_uid TEXT PRIMARY KEY{others}) WITHOUT ROWID")
    for name in ("patient_id", "study_uid", "series_uid", "sop_class"):
        index.execute(f"CREATE INDEX by_{name} ON instances ({name})")


def insert(index: sqlite3.Connection, row: Row) -> None:
    """One row, unless it is there; within the caller's transaction."""
    places = ", ".join("?" * len(_COLUMNS))
    index.execute(
        f"INSERT OR IGNORE INTO instances ({', '.join(_COLUMNS)}) VALUES ({places})",  # noqa: S608
        astuple(row),
    )


def add_rows(index: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Several rows in one transaction: all of them, or none."""
    index.execute("BEGIN IMMEDIATE")
    for row in rows:
        insert(index, row)
    index.execute("COMMIT")
