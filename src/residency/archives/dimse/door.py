"""A DIMSE archive (DICOM PS3.4, PS3.7): C-FIND to find, C-GET or C-MOVE to fetch, C-STORE to store."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from mmap import mmap

from residency.archive import Entry, Instance, Level, Query
from residency.archives.dimse.association import Association, Context, peer_of
from residency.archives.dimse.commands import C_ECHO, SOME_FAILED, SUCCESS, Command, refusal
from residency.archives.dimse.query import Querying, find_context
from residency.archives.dimse.receiver import MOVE, Receiver
from residency.archives.dimse.retrieve import Arrival, Outcome, Wanted, failure, get, get_contexts, wanted_of
from residency.archives.dimse.send import Sending
from residency.archives.dimse.slots import Slots
from residency.archives.elements import Buffer
from residency.archives.part10 import Row, header_of, read_row
from residency.archives.patience import patiently, wait
from residency.archives.storing import store_into
from residency.errors import AnswerError, ArchiveError, UnconfirmedError
from residency.settings import ArchiveSettings

_VERIFICATION = "1.2.840.10008.1.1"
_REMEMBERED = 100_000
"""Series whose study is kept in mind, for archives that want to be told it."""


class Dimse:
    """An archive that speaks DIMSE. Every promise of `residency.archive.Archive` as far as its network keeps them:
    what was stored is asked for and compared, unless the settings say that the destination only stores.
    """

    def __init__(self, settings: ArchiveSettings) -> None:
        """Nothing is opened yet. Raises ConfigError for settings that cannot be used."""
        self._settings = settings
        self._peer = peer_of(settings)
        self._querying = Querying()
        self._slots = Slots(settings.associations, settings.timeout_s)
        self._studies: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()
        self._storing = threading.Lock()
        self._receiver: Receiver | None = None

    @property
    def url(self) -> str:
        """dimse:// or dimses://, host, port and AE title."""
        return self._settings.url

    def echo(self) -> None:
        """C-ECHO: raises the error that says why the archive cannot be used at all."""
        with self._association([Context(_VERIFICATION)]) as association:
            context = association.require(_VERIFICATION, "verification (C-ECHO)")
            message = association.next_message()
            association.send(context, Command(field=C_ECHO, message_id=message, affected_class=_VERIFICATION))
            status = association.answer(message).status or SUCCESS
            if status != SUCCESS:
                raise refusal(status, f"{self._peer} refuses C-ECHO")

    def find(self, level: Level, query: Query) -> Iterator[Entry]:
        """Rows at one level that match the query."""
        yield from self._found(level, query)

    def headers(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        """Headers of a series, or of some of its instances. DIMSE sends whole instances: they are cut here."""
        for arrival in self._arrivals(series_uid, sop_uids):
            with arrival.looked_at() as data:
                header = self._cut(data, arrival.uid)
            self._check(header, arrival.uid, series_uid)
            yield Instance(arrival.uid, header)

    def instances(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        """Instances of a series, or some of them. Raises AnswerError for one that arrives cut short or as another."""
        for instance in self._given(series_uid, sop_uids):
            self._check(instance.data, instance.uid, series_uid)
            yield instance

    def store(self, instances: Iterable[Instance]) -> None:
        """Store instances, one after the other."""
        settings = self._settings
        with closing(_Storing(self)) as storing:
            store_into(storing, instances, self._storing, read_back=settings.read_back, retries=settings.retries)

    def close(self) -> None:
        """Listen no more for what C-MOVE sends. No association is open between calls."""
        with self._lock:
            if self._receiver is not None:
                self._receiver.close()
                self._receiver = None

    def traits(self, series_uid: str, sop_uid: str) -> Iterator[tuple[str, bool, str]]:
        """What is peculiar to this archive, tried on an instance that it holds: (what, whether it does it, detail)."""
        what = "answers C-ECHO"
        try:
            self.echo()
        except ArchiveError as error:
            yield what, False, str(error)
        else:
            yield what, True, ""
        with self._association([find_context()]) as association:
            found = Querying().alone(association, sop_uid)
        by_itself = any(row.series_uid in ("", series_uid) for row in found)
        detail = "a UID by itself is found" if by_itself else "asked level by level: a UID elsewhere shows afterwards"
        yield "answers relational queries", by_itself, detail

    # Finding

    def _found(self, level: Level, query: Query) -> list[Entry]:
        def ask() -> list[Entry]:
            with self._association([find_context()]) as association:
                return self._querying.find(association, level, query)

        rows = patiently(ask, self._settings.retries)
        self._remember(rows)
        return rows

    def _held(self, wanted: dict[str, tuple[str, str]]) -> list[Entry]:
        """Rows of those instances that the archive holds. wanted: SOP Instance UID -> its study and series."""

        def ask() -> list[Entry]:
            with self._association([find_context()]) as association:
                return [row.entry(Level.INSTANCE) for row in self._querying.known(association, wanted)]

        return patiently(ask, self._settings.retries)

    def _rows(self, series_uid: str, sop_uids: Sequence[str] | None) -> list[Entry]:
        with self._lock:
            study = self._studies.get(series_uid)
        if sop_uids is None or (study is None and self._querying.relational is not True):
            query = Query(study_uid=study, series_uid=series_uid)
            rows = self._found(Level.INSTANCE, query)
            wanted = None if sop_uids is None else set(sop_uids)
            return [row for row in rows if wanted is None or row.sop_uid in wanted]
        rows = self._held(dict.fromkeys(sop_uids, (study or "", series_uid)))
        return [row for row in rows if row.series_uid == series_uid]

    def _remember(self, rows: Iterable[Entry]) -> None:
        with self._lock:
            for row in rows:
                if row.series_uid:
                    self._studies[row.series_uid] = row.study_uid
            while len(self._studies) > _REMEMBERED:
                self._studies.popitem(last=False)

    # Fetching

    def _given(self, series_uid: str, sop_uids: Sequence[str] | None) -> Iterator[Instance]:
        for arrival in self._arrivals(series_uid, sop_uids):
            with arrival.looked_at() as data:
                instance = Instance(arrival.uid, data[:] if isinstance(data, mmap) else data)
            yield instance

    def _arrivals(self, series_uid: str, sop_uids: Sequence[str] | None) -> Iterator[Arrival]:
        if sop_uids is not None and not sop_uids:
            return
        for wanted in wanted_of(self._rows(series_uid, sop_uids)):
            yield from self._fetched(wanted)

    def _fetched(self, wanted: Wanted) -> Iterator[Arrival]:
        """Everything wanted; what a broken association left, or is listed and did not come, is asked for again."""
        attempt = 0
        while wanted.classes:
            given: set[str] = set()
            ended = Outcome()
            try:
                for came in self._retrieved(wanted):
                    if isinstance(came, Outcome):
                        ended = came
                    else:
                        given.add(came.uid)
                        yield came
            except ArchiveError as error:
                attempt = 1 if given else attempt + 1
                if not error.retry or attempt > self._settings.retries:
                    raise
                wait(attempt)
                wanted = wanted.only(wanted.classes.keys() - given)
                continue
            missing = sorted(wanted.classes.keys() - given)
            problem = failure(self._peer, ended, missing, moved=self._settings.retrieve == "move")
            if problem is None:
                return
            if ended.status == SOME_FAILED:
                raise problem
            if len(wanted.classes) == 1:
                # Success without the instance: one that is being stored anew is listed and not there for a moment.
                attempt += 1
                if ended.status != SUCCESS or attempt > self._settings.retries:
                    raise problem
                wait(attempt)
                continue
            # Not every archive takes a list of UIDs: one by one, then.
            for uid in missing:
                yield from self._fetched(wanted.only([uid]))
            return

    def _retrieved(self, wanted: Wanted) -> Iterator[Arrival | Outcome]:
        if self._settings.retrieve == "move":
            with self._association([Context(MOVE)]) as association:
                yield from self._listening().move(association, wanted)
        else:
            with self._association(get_contexts(set(wanted.classes.values()))) as association:
                yield from get(association, wanted)

    def _listening(self) -> Receiver:
        with self._lock:
            if self._receiver is None:
                self._receiver = Receiver(self._settings, self._peer)
            return self._receiver

    def _cut(self, data: Buffer, uid: str) -> bytes:
        try:
            return header_of(data, uid)
        except ArchiveError as error:
            raise AnswerError(f"{self._peer} sends what is no instance: {error}") from None

    def _check(self, data: bytes, uid: str, series_uid: str) -> None:
        try:
            row = read_row(data, uid)
        except ArchiveError as error:
            raise AnswerError(f"{self._peer} sends what is no instance: {error}") from None
        if (row.sop_uid, row.series_uid) != (uid, series_uid):
            raise AnswerError(f"{self._peer} sends another instance as {uid}: it cannot be relied upon")

    @contextmanager
    def _association(self, contexts: Sequence[Context]) -> Iterator[Association]:
        with self._slots.taken(), Association(self._peer, contexts) as association:
            yield association


class _Storing:
    """What `store_into` needs, for one call of `store`."""

    def __init__(self, door: Dimse) -> None:
        self._door = door
        compared = door._settings.read_back
        self._sending = Sending(door._peer, lambda contexts: Association(door._peer, contexts), compared=compared)

    @property
    def url(self) -> str:
        return self._door.url

    def present(self, rows: Sequence[Row]) -> Iterable[Entry]:
        held = self._door._held({row.sop_uid: (row.study_uid, row.series_uid) for row in rows})
        self._door._remember(held)
        return held

    def instances(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        """As they come: whether they are whole is what they are compared for."""
        return self._door._given(series_uid, sop_uids)

    def send(self, batch: Sequence[Instance]) -> None:
        def attempt() -> UnconfirmedError | None:
            try:
                with self._door._slots.taken(self._door._settings.associations) as count:
                    self._sending.send(batch, count)
                    if self._door._settings.read_back:
                        self._sending.release()
            except UnconfirmedError as error:
                return error
            return None

        # An answer that is lost is not tried again here: whoever stores asks first what is there.
        lost = patiently(attempt, self._door._settings.retries)
        if lost is not None:
            raise lost

    def close(self) -> None:
        self._sending.release()
