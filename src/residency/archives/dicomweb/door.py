"""A DICOMweb service (PS3.18) as an archive: QIDO-RS to find, WADO-RS to give, STOW-RS to store."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from operator import attrgetter, itemgetter
from threading import Lock
from typing import TypeVar

from residency.archive import Entry, Instance, Level, Query
from residency.archives.dicomweb import headers
from residency.archives.dicomweb.http import Web
from residency.archives.dicomweb.query import Questions
from residency.archives.dicomweb.retrieve import Retrieval
from residency.archives.dicomweb.store import send
from residency.archives.dicomweb.traits import traits_of
from residency.archives.part10 import Row
from residency.archives.patience import wait
from residency.archives.storing import store_into
from residency.dicom.dataset import is_uid
from residency.errors import AnswerError, ArchiveError
from residency.settings import ArchiveSettings

_FEW = 16
"""Instances that are fetched one by one from where their series was last seen."""
_MOST_REMEMBERED = 100_000
Given = TypeVar("Given")
Get = Callable[[Retrieval, Entry, str], Instance | None]


class DicomWeb:
    """A DICOMweb service behind the port `residency.archive.Archive`. Several threads may use it at once."""

    def __init__(self, settings: ArchiveSettings) -> None:
        """Raises ConfigError for settings that cannot be used. Whether the service answers is seen when it is asked."""
        self._settings = settings
        self._web = Web(settings)
        self._questions = Questions(self._web, settings.retries)
        self._retrieval = Retrieval(self._web, settings.retries)
        self._turn = Lock()
        self._studies: dict[str, str] = {}

    @property
    def url(self) -> str:
        """The service's base URL."""
        return self._web.url

    def find(self, level: Level, query: Query) -> Iterator[Entry]:
        """Rows at one level that match the query."""
        for row in self._questions.find(level, query):
            if row.series_uid:
                self._remember(row)
            yield row

    def headers(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        """Headers of a series, or of some of its instances. Pixels of ordinary images are not transferred."""
        unseen = yield from self._remembered(series_uid, sop_uids, headers.exact)
        for place, wanted, most_of_it in self._places(series_uid, unseen):
            given: set[str] = set()
            unsaid: list[str] = []
            if most_of_it:
                found = self._resumed(partial(headers.from_json, self._retrieval, place), itemgetter(0))
                for uid, header in found:
                    if wanted is not None and uid not in wanted:
                        continue
                    given.add(uid)
                    if header is None:
                        unsaid.append(uid)
                    else:
                        yield header
            rest = unsaid + self._rest(place, wanted, given)
            yield from self._each(place, rest, headers.exact, must=wanted is None)

    def instances(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        """Instances of a series, or some of them; one is in memory at a time, or as many as `associations` says.

        Raises AnswerError where the archive lists an instance and does not give it: a series is whole or refused.
        """
        unseen = yield from self._remembered(series_uid, sop_uids, Retrieval.instance)
        for place, wanted, most_of_it in self._places(series_uid, unseen):
            given: set[str] = set()
            if most_of_it:
                found = self._resumed(partial(self._retrieval.series, place), attrgetter("uid"))
                for instance in found:
                    given.add(instance.uid)
                    if wanted is None or instance.uid in wanted:
                        yield instance
            yield from self._each(place, self._rest(place, wanted, given), Retrieval.instance, must=wanted is None)

    def store(self, instances: Iterable[Instance]) -> None:
        """Store instances, one batch after the other. Those before one that is refused are stored."""
        settings = self._settings
        store_into(self, instances, self._turn, read_back=settings.read_back, retries=settings.retries)

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._web.close()

    def traits(self, series_uid: str, sop_uid: str) -> Iterator[tuple[str, bool, str]]:
        """What is peculiar to this service, tried on an instance that it holds: (what, whether it does it, detail)."""
        for row in self.find(Level.INSTANCE, Query(series_uid=series_uid, sop_uid=sop_uid)):
            yield from traits_of(self._web, row)

    # What storing needs (residency.archives.storing.Door)

    def present(self, rows: Sequence[Row]) -> Iterator[Entry]:
        """Rows of those of our instances that the archive holds."""
        for row in self._questions.present(rows):
            self._remember(row)
            yield row

    def send(self, batch: Sequence[Instance]) -> None:
        """One attempt to store."""
        send(self._web, batch, self._settings.retries)

    # Getting

    def _remember(self, row: Entry) -> None:
        if len(self._studies) >= _MOST_REMEMBERED:
            self._studies.clear()
        self._studies[row.series_uid] = row.study_uid

    def _remembered(
        self, series_uid: str, sop_uids: Sequence[str] | None, get: Get
    ) -> Generator[Instance, None, Sequence[str] | None]:
        """A few instances from where their series was last seen; what is still to be looked for, None for all.

        A look through 500 models asks for one manifest each: their studies are known from the rows that named them.
        """
        study = self._studies.get(series_uid)
        wanted = sorted({uid for uid in sop_uids or () if is_uid(uid)})
        if study is None or not 0 < len(wanted) <= _FEW:
            return sop_uids
        found: set[str] = set()
        for instance in self._each(Entry("", study, series_uid), wanted, get, must=False):
            found.add(instance.uid)
            yield instance
        return [uid for uid in wanted if uid not in found]

    def _places(
        self, series_uid: str, sop_uids: Sequence[str] | None
    ) -> Iterator[tuple[Entry, frozenset[str] | None, bool]]:
        """Where the series lies; which of its instances are wanted, None for all; whether those are most of it."""
        wanted = None if sop_uids is None else frozenset(uid for uid in sop_uids if is_uid(uid))
        if wanted is not None and not wanted:
            return
        seen: set[str] = set()
        for place in self._questions.find(Level.SERIES, Query(series_uid=series_uid)):
            if place.study_uid not in seen:
                seen.add(place.study_uid)
                yield place, wanted, wanted is None or 2 * len(wanted) > place.instances > 0

    def _rest(self, place: Entry, wanted: frozenset[str] | None, given: set[str]) -> list[str]:
        """What is still to be fetched: what was asked for by name, or what the archive lists and has not given."""
        if wanted is not None:
            return sorted(wanted - given)
        if len(given) >= place.instances > 0:
            return []
        query = Query(study_uid=place.study_uid, series_uid=place.series_uid)
        return [row.sop_uid for row in self._questions.find(Level.INSTANCE, query) if row.sop_uid not in given]

    def _resumed(self, opened: Callable[[], Iterator[Given]], uid_of: Callable[[Given], str]) -> Iterator[Given]:
        """What a stream gives, each UID once; a stream that breaks is begun again while it gets on."""
        given: set[str] = set()
        attempt = 0
        while True:
            before = len(given)
            try:
                for one in opened():
                    if uid_of(one) not in given:
                        given.add(uid_of(one))
                        yield one
            except ArchiveError as error:
                attempt = 1 if len(given) > before else attempt + 1
                if not error.retry or attempt > self._settings.retries:
                    raise
                wait(attempt, asked_s=getattr(error, "after_s", 0.0))
            else:
                return

    def _each(
        self,
        place: Entry,
        uids: Sequence[str],
        get: Get,
        *,
        must: bool,
    ) -> Iterator[Instance]:
        """One request an instance, several at once. must: that one is not there is the archive's fault."""
        for uid, instance in self._at_once(lambda uid: get(self._retrieval, place, uid), uids):
            if instance is not None:
                yield instance
            elif must:
                raise AnswerError(f"{self.url} lists {uid} and does not give it: the series is not whole", retry=True)

    def _at_once(self, get: Callable[[str], Given], uids: Sequence[str]) -> Iterator[tuple[str, Given]]:
        """Results in order; no more are held than are fetched at once."""
        if len(uids) < 2 or self._settings.associations < 2:
            yield from ((uid, get(uid)) for uid in uids)
            return
        waiting: deque[tuple[str, Future[Given]]] = deque()
        rest = iter(uids)
        with ThreadPoolExecutor(self._settings.associations) as pool:
            try:
                for uid in islice(rest, self._settings.associations):
                    waiting.append((uid, pool.submit(get, uid)))
                while waiting:
                    uid, result = waiting.popleft()
                    yield uid, result.result()
                    for following in islice(rest, 1):
                        waiting.append((following, pool.submit(get, following)))
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
