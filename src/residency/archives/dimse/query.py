"""C-FIND in the Study Root model (DICOM PS3.4 C.6.2): one question where the archive allows it, else level by level.

PS3.4 C.4.1.3.1: a hierarchical search gives the unique keys of all levels above. Most archives answer relational
queries as well; whether one does is tried on an instance of its own before an empty answer is believed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from residency.archive import Entry, Level, Query
from residency.archives.dimse.association import Association, Context
from residency.archives.dimse.commands import (
    C_CANCEL,
    C_FIND,
    CANCELLED,
    PENDING,
    PENDING_WARNING,
    SUCCESS,
    WITH_DATA_SET,
    Command,
    refusal,
)
from residency.archives.dimse.identifiers import (
    DEPTH,
    INHERITED,
    KEYS,
    LEVEL_OF,
    OWN_UID,
    Found,
    asked,
    identifier,
    number,
    possible,
    row_of_answer,
)
from residency.archives.part10 import MOST_ROWS
from residency.errors import AnswerError, RejectedError

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
"""Study Root Query/Retrieve Information Model - FIND."""
_LONGEST_S = 3600.0
AT_ONCE = 100
"""UIDs in one list."""

_T = TypeVar("_T")


class Querying:
    """What is known of how an archive answers queries; one for each door.

    relational  None as long as nothing has shown it
    """

    def __init__(self) -> None:
        self.relational: bool | None = None

    def find(self, association: Association, level: Level, query: Query) -> list[Entry]:
        """Every row that satisfies the query."""
        if not possible(query):
            return []
        rows = self._rows(association, level, query)
        return [self._counted(association, level, row).entry(level) for row in rows]

    def known(self, association: Association, wanted: Mapping[str, tuple[str, str]]) -> list[Found]:
        """Rows of those instances that the archive has. wanted: SOP Instance UID -> its study and series.

        An archive that insists on the hierarchy is asked only in that study and series.
        """
        rows = []
        if self.relational is not False:
            for uids in _chunks(list(wanted)):
                rows += self._asked(association, Level.INSTANCE, {"sop_uid": uids}, relational=True) or []
        if not rows and not self._is_relational(association):
            places: dict[tuple[str, str], list[str]] = {}
            for uid, place in wanted.items():
                places.setdefault(place, []).append(uid)
            for (study, series), members in places.items():
                for uids in _chunks(members):
                    matched = {"study_uid": study, "series_uid": series, "sop_uid": uids}
                    above = Found(study_uid=study, series_uid=series)
                    found = self._asked(association, Level.INSTANCE, matched, relational=False) or []
                    rows += [row.below(above) for row in found]
        return [row for row in rows if row.sop_uid in wanted]

    # Rows

    def _rows(self, association: Association, level: Level, query: Query) -> list[Found]:
        if level is Level.STUDY and max((LEVEL_OF[name] for name in asked(query)), default=0) == 0:
            return self._strict(association, level, asked(query), query, Found())
        if self.relational is not False:
            rows = self._relational(association, level, query)
            if rows or (rows is not None and self._is_relational(association)):
                return rows
        return self._level_by_level(association, level, query)

    def _relational(self, association: Association, level: Level, query: Query) -> list[Found] | None:
        """Rows by one question, or two where the query goes deeper than the level; None where that is refused."""
        given = asked(query)
        deepest = max((LEVEL_OF[name] for name in given), default=0)
        if deepest <= DEPTH[level]:
            rows = self._asked(association, level, given, relational=True)
            return None if rows is None else self._completed(association, level, query, rows)
        if level is Level.STUDY and "series_uid" not in given and deepest == DEPTH[Level.SERIES]:
            rows = self._asked(association, level, _above(given) | {"modalities": given["modality"]}, relational=True)
            if rows is not None and all(row.modalities is not None for row in rows):
                named = [row for row in rows if given["modality"] in (row.modalities or "").split("\\")]
                return [row for row in named if row.fits(query, level)]
        deep = Level.INSTANCE if deepest == DEPTH[Level.INSTANCE] else Level.SERIES
        below = self._relational(association, deep, query)
        if below is None:
            return None
        uids = sorted({getattr(row, OWN_UID[level]) for row in below} - {""})
        rows = []
        for chunk in _chunks(uids):
            rows += self._asked(association, level, {OWN_UID[level]: chunk}, relational=True) or []
        wanted = set(uids)
        return [
            row for row in self._completed(association, level, query, rows) if getattr(row, OWN_UID[level]) in wanted
        ]

    def _completed(self, association: Association, level: Level, query: Query, rows: Sequence[Found]) -> list[Found]:
        """Those rows that fit; what an archive did not answer of the levels above is asked for there."""
        studies: dict[str, Found] = {}
        series: dict[str, Found] = {}
        fitting = []
        for found in rows:
            row = found
            if level is Level.INSTANCE and (not row.modality or row.series_description is None) and row.series_uid:
                row = row.below(self._one(association, Level.SERIES, row, series))
            if level is not Level.STUDY and not row.patient_id and row.study_uid:
                row = row.below(self._one(association, Level.STUDY, row, studies))
            if row.fits(query, level):
                fitting.append(row)
        return fitting

    def _one(self, association: Association, level: Level, row: Found, known: dict[str, Found]) -> Found:
        uid = getattr(row, OWN_UID[level])
        if uid not in known:
            matched = {"study_uid": row.study_uid} | ({"series_uid": uid} if level is Level.SERIES else {})
            rows = self._asked(association, level, matched, relational=False) or []
            known[uid] = next((one for one in rows if getattr(one, OWN_UID[level]) == uid), Found())
        return known[uid]

    def _level_by_level(self, association: Association, level: Level, query: Query) -> list[Found]:
        """As PS3.4 C.4.1.3.1.1 has it: studies, in each its series, in each its instances."""
        given = asked(query)
        deepest = max((LEVEL_OF[name] for name in given), default=0)
        keys: dict[str, str] = {name: given[name] for name in ("patient_id", "study_uid") if name in given}
        if "modality" in given:
            keys["modalities"] = given["modality"]
        found = []
        for study in self._strict(association, Level.STUDY, keys, query, Found()):
            if level is Level.STUDY and deepest == 0:
                found.append(study)
                continue
            keys = {name: value for name, value in given.items() if LEVEL_OF[name] == 1}
            keys["study_uid"] = study.study_uid
            series = self._strict(association, Level.SERIES, keys, query, study)
            if level is Level.STUDY and deepest == 1:
                found += [study] if series else []
                continue
            if level is Level.SERIES and deepest <= 1:
                found += series
                continue
            for one in series:
                keys = {name: value for name, value in given.items() if LEVEL_OF[name] == 2}
                keys |= {"study_uid": study.study_uid, "series_uid": one.series_uid}
                rows = self._strict(association, Level.INSTANCE, keys, query, one)
                if level is Level.INSTANCE:
                    found += rows
                elif rows:
                    found.append(one if level is Level.SERIES else study)
        return list(dict.fromkeys(found))

    def _strict(
        self, association: Association, level: Level, keys: Mapping[str, str], query: Query, above: Found
    ) -> list[Found]:
        rows = [row.below(above) for row in self._asked(association, level, keys, relational=False) or []]
        return [row for row in rows if row.fits(query, level)]

    def _counted(self, association: Association, level: Level, row: Found) -> Found:
        """The row with the number of its instances, which an archive need not answer (PS3.4 C.6.2.1)."""
        if level is Level.STUDY and number(row.study_instances) is None:
            series = self._asked(association, Level.SERIES, {"study_uid": row.study_uid}, relational=False) or []
            counts = [self._counted(association, Level.SERIES, one.below(row)).series_instances for one in series]
            return replace(row, study_instances=str(sum(number(count) or 0 for count in counts)))
        if level is Level.SERIES and number(row.series_instances) is None:
            keys = {"study_uid": row.study_uid, "series_uid": row.series_uid}
            members = self._asked(association, Level.INSTANCE, keys, relational=False) or []
            return replace(row, series_instances=str(len(members)))
        return row

    # Whether relational queries work

    def _is_relational(self, association: Association) -> bool:
        """Ask for an instance of the archive's own by its UID alone; in an empty archive anything is right.

        One that does not let itself be looked through is believed.
        """
        if self.relational is None:
            try:
                own = self._any_instance(association)
            except RejectedError:
                return True
            if own is None:
                return True
            self.relational = bool(self.alone(association, own.sop_uid))
        return self.relational

    def alone(self, association: Association, sop_uid: str) -> list[Found]:
        """Rows of an instance that is asked for by its UID alone; none where that is refused."""
        rows = self._asked(association, Level.INSTANCE, {"sop_uid": sop_uid}, relational=True) or []
        return [row for row in rows if row.sop_uid == sop_uid]

    def _any_instance(self, association: Association) -> Found | None:
        row = Found()
        for level in Level:
            place = {OWN_UID[above]: getattr(row, OWN_UID[above]) for above in Level if DEPTH[above] < DEPTH[level]}
            first = list(_answers(association, level, KEYS[level], place, most=1))
            if not first:
                return None
            row = first[0].below(row)
        return row

    def _asked(
        self,
        association: Association,
        level: Level,
        matched: Mapping[str, str | Sequence[str]],
        *,
        relational: bool,
    ) -> list[Found] | None:
        """Rows of one C-FIND; None where a relational one is refused, so that it is not tried again."""
        keys = KEYS[level] + (INHERITED[level] if relational else ())
        given = set(matched)
        hierarchical = given >= {OWN_UID[above] for above in Level if DEPTH[above] < DEPTH[level]}
        try:
            rows = list(_answers(association, level, keys, matched))
            if rows and not hierarchical:
                self.relational = True
            return rows
        except RejectedError:
            if not relational or (hierarchical and self.relational):
                raise
            self.relational = False
            return None


def _above(given: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in given.items() if LEVEL_OF[name] == 0}


def _answers(
    association: Association,
    level: Level,
    keys: Sequence[str],
    matched: Mapping[str, str | Sequence[str]],
    most: int | None = None,
) -> Iterator[Found]:
    """The rows that answer one C-FIND; after `most` of them the rest is cancelled."""
    context = association.require(FIND, "queries (C-FIND, Study Root)")
    message = association.next_message()
    request = Command(field=C_FIND, message_id=message, affected_class=FIND, priority=0, data_set=WITH_DATA_SET)
    association.send(context, request, identifier(level, keys, matched))
    peer = str(association.peer)
    count, end = 0, time.monotonic() + _LONGEST_S
    while True:
        answer = association.answer(message)
        if time.monotonic() > end:
            raise AnswerError(f"{peer} goes on answering one query for {_LONGEST_S:g} s; ask for less at once")
        if answer.status not in (PENDING, PENDING_WARNING):
            if answer.has_data_set:
                association.small_data_set(context)
            if answer.status == SUCCESS or (answer.status == CANCELLED and most):
                return
            raise refusal(answer.status or 0, f"{peer} refuses a query at {level} level")
        if not answer.has_data_set:
            raise AnswerError(f"{peer} announces a row and sends none")
        row = row_of_answer(association.small_data_set(context), level, peer)
        count += 1
        if count > MOST_ROWS:
            raise AnswerError(f"{peer} answers a query with more than {MOST_ROWS} rows; ask for less at once")
        if most is None or count <= most:
            yield row
        if count == most:
            association.send(context, Command(field=C_CANCEL, responded_to=message))


def find_context() -> Context:
    """What is proposed for queries."""
    return Context(FIND)


def _chunks(items: Sequence[_T], size: int = AT_ONCE) -> Iterable[Sequence[_T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
