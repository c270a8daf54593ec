"""C-GET and C-MOVE (DICOM PS3.4 C.4.2, C.4.3): instances as they arrive, one in memory at a time.

An archive picks the presentation context by the transfer syntax in which it keeps an instance, so each syntax is
proposed in a context of its own; deflated is not, since Orthanc fails on it and others need not know it.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from mmap import ACCESS_READ, mmap
from typing import IO, cast

from pynetdicom.presentation import StoragePresentationContexts

from residency.archive import Entry, Level
from residency.archives.dimse.association import EXPLICIT, IMPLICIT, MOST_CONTEXTS, Association, Context, Peer
from residency.archives.dimse.commands import (
    C_GET,
    C_STORE,
    NO_DATA_SET,
    PENDING,
    RESPONSE,
    SOME_FAILED,
    SUCCESS,
    WITH_DATA_SET,
    Command,
    in_words,
    refusal,
)
from residency.archives.dimse.identifiers import identifier
from residency.archives.elements import Buffer
from residency.archives.part10 import LARGEST_INSTANCE
from residency.dicom.part10 import IMPLEMENTATION_CLASS_UID
from residency.errors import AnswerError, ArchiveError, RejectedError

GET = "1.2.840.10008.5.1.4.1.2.2.3"
"""Study Root Query/Retrieve Information Model - GET."""
_JPEG = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203, 100, 102, 103))
SYNTAXES = (EXPLICIT, IMPLICIT, "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5", *_JPEG)
"""Transfer syntaxes in which instances are taken: native, RLE, JPEG in its forms, video."""
AT_ONCE = 100
"""Instances asked for in one request."""
_IN_MEMORY = 32 * 2**20


@dataclass(frozen=True)
class Wanted:
    """Instances of one series that are to be fetched: SOP Instance UID -> SOP class."""

    study_uid: str
    series_uid: str
    classes: dict[str, str]

    def identifier(self) -> bytes:
        """As C-GET and C-MOVE ask for them."""
        place = {"study_uid": self.study_uid, "series_uid": self.series_uid}
        return identifier(Level.INSTANCE, (), place | {"sop_uid": sorted(self.classes)})

    def only(self, uids: Iterable[str]) -> Wanted:
        """Some of them."""
        return Wanted(self.study_uid, self.series_uid, {uid: self.classes[uid] for uid in uids})


@dataclass(frozen=True)
class Outcome:
    """How a retrieval ended: its last status. What did not come is known without its list of failures."""

    status: int = SUCCESS


class Arrival:
    """One instance on its way in, as a file: small ones in memory, large ones in a file without a name."""

    def __init__(self, uid: str, sop_class: str, syntax: str) -> None:
        self.uid = uid
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # closed by whoever looks at it
        self._file.write(_file_meta(sop_class, uid, syntax))

    @property
    def into(self) -> IO[bytes]:
        """Where the data set is written."""
        return cast("IO[bytes]", self._file)

    def close(self) -> None:
        """It is not wanted any more."""
        self._file.close()

    @contextmanager
    def looked_at(self) -> Iterator[Buffer]:
        """Its bytes; it is gone afterwards."""
        with self._file as file:
            file.flush()
            if file._rolled:  # type: ignore[attr-defined]  # asking in public, by fileno(), would move it to the disk
                with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
                    yield data
            else:
                file.seek(0)
                yield file.read()


def wanted_of(rows: Iterable[Entry]) -> Iterator[Wanted]:
    """Rows in requests: of one series each, of no more SOP classes than one association has contexts for."""
    most_classes = (MOST_CONTEXTS - 1) // len(SYNTAXES)
    series: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        series.setdefault((row.study_uid, row.series_uid), {})[row.sop_uid] = row.sop_class
    for (study, uid), members in series.items():
        by_class = sorted(members.items(), key=lambda item: (item[1], item[0]))
        while by_class:
            some = by_class[:AT_ONCE]
            classes = sorted({sop_class for _, sop_class in some})[:most_classes]
            taken = {sop_uid: sop_class for sop_uid, sop_class in some if sop_class in classes}
            yield Wanted(study, uid, taken)
            by_class = [item for item in by_class if item[0] not in taken]


def get_contexts(classes: Collection[str]) -> list[Context]:
    """What is proposed to fetch instances of these SOP classes by C-GET.

    For an archive that does not answer SOP classes: every class in use, uncompressed.
    """
    if "" in classes:
        common = [str(context.abstract_syntax) for context in StoragePresentationContexts][: MOST_CONTEXTS - 1]
        return [Context(GET)] + [Context(c, (EXPLICIT, IMPLICIT), receives=True) for c in common]
    return [Context(GET)] + [Context(c, (syntax,), receives=True) for c in sorted(set(classes)) for syntax in SYNTAXES]


def get(association: Association, wanted: Wanted) -> Iterator[Arrival | Outcome]:
    """Fetch by C-GET: what arrives, and at the end how it went.

    Raises AnswerError for an instance that was not asked for, or that comes twice.
    """
    context = association.require(GET, 'retrieval by C-GET (Study Root); set retrieve = "move" if it offers C-MOVE')
    message = association.next_message()
    request = Command(field=C_GET, message_id=message, affected_class=GET, priority=0, data_set=WITH_DATA_SET)
    association.send(context, request, wanted.identifier())
    left = set(wanted.classes)
    for number, command in _counted(association, most=4 * len(left) + 16):
        if command.field == C_STORE:
            arrival = _accepted(association, number, command, left)
            left.discard(arrival.uid)
            yield arrival
        elif command.responded_to != message or command.status is None:
            raise AnswerError(f"{association.peer} answers something that was not asked")
        elif command.status == PENDING:
            continue
        else:
            yield outcome(association, number, command)
            return


def outcome(association: Association, number: int, command: Command) -> Outcome:
    """The last response of a retrieval; its list of failures is passed over."""
    if command.has_data_set:
        association.small_data_set(number)
    return Outcome(command.status or SUCCESS)


def _counted(association: Association, most: int) -> Iterator[tuple[int, Command]]:
    for _ in range(most):
        yield association.command()
    raise AnswerError(f"{association.peer} goes on answering a retrieval without end")


def _accepted(association: Association, number: int, command: Command, left: set[str]) -> Arrival:
    """Take one instance and say so."""
    sop_class, syntax = association.accepted[number]
    uid = command.affected_instance
    if uid not in left or not command.has_data_set:
        raise unasked(association.peer)
    arrival = Arrival(uid, command.affected_class or sop_class, syntax)
    try:
        association.data_set(number, LARGEST_INSTANCE, arrival.into)
        association.send(number, stored(command, SUCCESS))
    except BaseException:
        arrival.close()
        raise
    return arrival


def stored(command: Command, status: int) -> Command:
    """The answer to a C-STORE."""
    return Command(
        field=C_STORE | RESPONSE,
        responded_to=command.message_id,
        affected_class=command.affected_class,
        affected_instance=command.affected_instance,
        data_set=NO_DATA_SET,
        status=status,
    )


def unasked(peer: Peer) -> AnswerError:
    """An instance that came without being asked for."""
    return AnswerError(f"{peer} sends an instance that nobody asked for; it is not taken")


def failure(peer: Peer, ended: Outcome, missing: Sequence[str], *, moved: bool = False) -> ArchiveError | None:
    """The error for instances that did not come, each named; None where none is missing. moved: asked for by C-MOVE."""
    if not missing:
        return None
    named = ", ".join(islice(missing, 20)) + (" ..." if len(missing) > 20 else "")
    if ended.status == SUCCESS:
        return AnswerError(f"{peer} lists what it does not send: {named}")
    what = f"{peer} does not send what was asked for"
    if ended.status == SOME_FAILED:
        return RejectedError(f"{what}: {in_words(SOME_FAILED)}: {named}")
    refused = refusal(ended.status, what)
    # What an archive says that does not know where to send is the same as for an instance that it cannot send.
    hint = ". For C-MOVE it must know our 'ae_title' with the address of 'move_host' and 'move_port'" if moved else ""
    return type(refused)(f"{refused}{hint}: {named}", retry=refused.retry)


def _file_meta(sop_class: str, uid: str, syntax: str) -> bytes:
    """Preamble and file meta group of an instance that came by itself (PS3.10 7.1)."""
    group = struct.pack("<HH2sHI", 2, 1, b"OB", 0, 2) + b"\0\1"
    for element, value in ((2, sop_class), (3, uid), (0x10, syntax), (0x12, IMPLEMENTATION_CLASS_UID)):
        coded = value.encode("ascii") + b"\0" * (len(value) % 2)
        group += struct.pack("<HH2sH", 2, element, b"UI", len(coded)) + coded
    return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(group)) + group
