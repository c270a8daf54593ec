"""Storing into an archive that we do not run: ask what is there, send the rest, read it back and compare.

An archive's success does not mean that it holds our bytes: one keeps the first copy of a known UID in silence, another
replaces it, a third drops private elements. What differs afterwards is said by its name; what got lost on the way is
sent again under the same UID, which is harmless.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

from residency.archive import Entry, Instance
from residency.archives.memory import conflict, row_of
from residency.archives.part10 import Row, differences, same_data_set
from residency.archives.patience import patiently, wait
from residency.errors import AlteredError, AnswerError, ArchiveError, LostError, UnconfirmedError, UnreachableError

MOST_AT_ONCE = 64
"""Instances that are asked for, sent and compared together."""
MOST_BYTES_AT_ONCE = 64 * 2**20


class Door(Protocol):
    """What storing needs of an archive."""

    @property
    def url(self) -> str:
        """How the archive is called in messages."""
        ...

    def present(self, rows: Sequence[Row]) -> Iterable[Entry]:
        """Rows of those of our instances that the archive holds, in whatever series they lie there."""
        ...

    def instances(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        """Instances of a series, as `residency.archive.Archive` gives them."""
        ...

    def send(self, batch: Sequence[Instance]) -> None:
        """One attempt to store. UnconfirmedError where the answer is lost; instances that are there are harmless."""
        ...


@dataclass(frozen=True)
class _Sent:
    row: Row
    instance: Instance


def store_into(door: Door, instances: Iterable[Instance], turn: Lock, *, read_back: bool, retries: int) -> None:
    """Store instances, one batch after the other; those before one that is refused are stored.

    turn       held while a batch is stored: of two writers with one UID, the second then sees what the first stored
    read_back  ask before what is there, and compare afterwards; False for a destination that only stores
    Raises ConflictError, LostError, AlteredError, UnconfirmedError, and what the door raises.
    """
    source = iter(instances)
    ended = False
    while not ended:
        batch, refused, ended = _next_batch(source)
        with turn:
            if batch and read_back:
                _store_and_compare(door, batch, retries)
            elif batch:
                _send(door, list(batch.values()), retries, ask=False)
        if refused is not None:
            raise refused


def _next_batch(source: Iterator[Instance]) -> tuple[dict[str, _Sent], ArchiveError | None, bool]:
    """Instances by UID; the refusal of the one behind them; whether nothing is left."""
    batch: dict[str, _Sent] = {}
    size = 0
    for instance in source:
        try:
            row = row_of(instance)
        except ArchiveError as error:
            return batch, error, True
        known = batch.get(row.sop_uid)
        if known is not None and not same_data_set(known.instance.data, instance.data):
            return batch, conflict(row.sop_uid), True
        batch[row.sop_uid] = known or _Sent(row, instance)
        size += len(instance.data)
        if len(batch) >= MOST_AT_ONCE or size >= MOST_BYTES_AT_ONCE:
            return batch, None, False
    return batch, None, True


def _store_and_compare(door: Door, batch: Mapping[str, _Sent], retries: int) -> None:
    held = _held(door, batch)
    missing: list[_Sent] = []
    refused: ArchiveError | None = None
    for uid, sent in batch.items():
        if held.get(uid) is False:
            refused = conflict(uid)
            break
        if uid not in held:
            missing.append(sent)
    if missing:
        _send(door, missing, retries, ask=True)
        waiting = {sent.row.sop_uid: sent for sent in missing}
        # An archive may need a moment until it finds what it took; what else fails was tried again by the door.
        patiently(lambda: _compare(door, waiting), retries, but=(UnreachableError, AnswerError))
    if refused is not None:
        raise refused


def _held(door: Door, batch: Mapping[str, _Sent]) -> dict[str, bool]:
    """For each instance that the archive holds and gives: whether it is the same as ours."""
    series: dict[str, set[str]] = defaultdict(set)
    for entry in door.present([sent.row for sent in batch.values()]):
        if entry.sop_uid in batch:
            series[entry.series_uid].add(entry.sop_uid)
    held: dict[str, bool] = {}
    for series_uid, uids in series.items():
        for found in door.instances(series_uid, sorted(uids)):
            if found.uid in batch:
                same = same_data_set(found.data, batch[found.uid].instance.data)
                held[found.uid] = same and held.get(found.uid, True)
    return held


def _send(door: Door, unsent: Sequence[_Sent], retries: int, *, ask: bool) -> None:
    """Send until an answer came; after a lost one only what is not there, where the archive can be asked."""
    attempt = 0
    while unsent:
        try:
            door.send([sent.instance for sent in unsent])
        except UnconfirmedError as error:
            attempt += 1
            if attempt > retries:
                raise
            wait(attempt)
            unsent = _still_missing(door, unsent, error) if ask else unsent
        else:
            return


def _still_missing(door: Door, unsent: Sequence[_Sent], lost: UnconfirmedError) -> list[_Sent]:
    try:
        there = {entry.sop_uid for entry in door.present([sent.row for sent in unsent])}
    except UnreachableError:
        raise lost from None
    return [sent for sent in unsent if sent.row.sop_uid not in there]


def _compare(door: Door, waiting: dict[str, _Sent]) -> None:
    """Take out of `waiting` what the archive gives back unchanged; raise for the rest."""
    series: dict[str, list[str]] = defaultdict(list)
    for uid, sent in waiting.items():
        series[sent.row.series_uid].append(uid)
    for series_uid, uids in series.items():
        for found in door.instances(series_uid, uids):
            if found.uid not in waiting:
                continue
            sent_data = waiting[found.uid].instance.data
            if not same_data_set(found.data, sent_data):
                raise AlteredError(
                    f"{door.url} gives back {found.uid} changed: {differences(sent_data, found.data)}. Let it store "
                    "objects as they come; where something else wrote under this UID meanwhile, that one stays"
                )
            del waiting[found.uid]
    if waiting:
        first = next(iter(waiting))
        raise LostError(
            f"{door.url} reported success for {len(waiting)} instances that it does not give back, first {first}: "
            "look into its log for what became of them",
            retry=True,
        )
