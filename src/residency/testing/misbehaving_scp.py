"""A small DIMSE archive of our own on 127.0.0.1, made with pynetdicom, that can do wrong what archives do wrong."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from io import BytesIO
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RawDataStorage,
    SegmentationStorage,
)
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.dsutils import encode

from residency.archive import Entry, Instance, Level, Query
from residency.archives.memory import MemoryArchive
from residency.settings import ArchiveSettings

VERIFICATION = "1.2.840.10008.1.1"
FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{n}" for n in (1, 2, 3))
_TAKEN = (RawDataStorage, MRImageStorage, SegmentationStorage, EncapsulatedPDFStorage)
"""Few: pynetdicom copies all of them for each association."""
_CANCELLED = 0xFE00
_LEVELS = {"STUDY": Level.STUDY, "SERIES": Level.SERIES, "IMAGE": Level.INSTANCE}


class Behaviour(StrEnum):
    """What it does wrong; all else it does right."""

    GOOD = "nothing wrong"
    STRICT = "refuses queries that leave out the levels above"
    STRICT_AND_SILENT = "answers queries that leave out the levels above with success and no row"
    KEEPS_TO_ITSELF = "refuses queries without any key"
    ENDS_WITH_A_ROW = "ends a query that is cancelled with a row beside the status"
    NO_CLASSES = "answers rows without SOP classes"
    ONE_BY_ONE = "takes no list of UIDs when it is to send instances"
    MOVES_PRIVATE = "writes private blocks to another block"
    DROPS_PRIVATE = "drops private elements"
    LOSES = "reports success and stores nothing"
    TRUNCATES = "cuts values that are longer than its limit"
    REFUSES_CLASS = "does not accept Raw Data Storage"
    REFUSES_OBJECT = "answers 0122 to every C-STORE"
    NOT_AUTHORISED = "answers 0124 to every C-STORE"
    FULL = "answers A700 to every C-STORE"
    COERCES = "changes the Patient ID and answers B000"
    RESETS_STORING = "closes the connection instead of answering a C-STORE"
    RESETS_SENDING = "closes the connection instead of sending"
    RESETS_BETWEEN = "closes the connection after each instance that it sends"
    ABORTS = "aborts the association when it is asked to send"
    SLOW = "does not answer in time"
    WRONG_ROWS = "ignores what is asked for and answers every row"
    MALFORMED_ROWS = "answers rows without UIDs"
    FAILS_SOME = "reports sub-operations that failed"
    SENDS_NONE = "reports success and sends nothing"
    UNASKED = "sends an instance that nobody asked for"
    ANOTHER = "sends another instance under the UID that was asked for"
    REJECTS_CALLER = "does not know our AE title"
    REJECTS_CALLED = "is not called as it is addressed"
    BUSY = "has no association to spare"


@dataclass
class MisbehavingScp:
    """The archive, while it runs.

    tls     its side of TLS, where it speaks that
    limit   bytes of a value beyond which TRUNCATES cuts it
    pause_s how long SLOW lets one wait
    times   how often it misbehaves before it turns good; None for ever
    """

    port: int = 0
    behaviour: Behaviour = Behaviour.GOOD
    limit: int = 16 * 2**20
    pause_s: float = 5.0
    times: int | None = None
    move_port: int = 0
    tls: ssl.SSLContext | None = None
    content: MemoryArchive = field(default_factory=MemoryArchive)
    connections: list[socket.socket] = field(default_factory=list)

    def settings(self, **changes: Any) -> ArchiveSettings:
        """How to address it; short waits and no repetition unless told otherwise."""
        given = {
            "url": f"{'dimses' if self.tls else 'dimse'}://127.0.0.1:{self.port}/SCP",
            "timeout_s": 2.0,
            "retries": 0,
        }
        return ArchiveSettings.model_validate(given | {"move_port": self.move_port} | changes)

    def _does(self, *behaviours: Behaviour) -> bool:
        if self.behaviour not in behaviours or self.times == 0:
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def opened(self, event: evt.Event) -> None:
        """Remember a connection: pynetdicom forgets to close one that its peer has ended first."""
        carried = event.assoc.dul.socket
        if carried is not None and carried.socket is not None:
            self.connections.append(carried.socket)

    # Storing

    def store(self, event: evt.Event) -> int:
        """Answer a C-STORE."""
        if self._does(Behaviour.RESETS_STORING):
            _reset(event)
            return 0x0000
        refusals = {Behaviour.REFUSES_OBJECT: 0x0122, Behaviour.NOT_AUTHORISED: 0x0124, Behaviour.FULL: 0xA700}
        for behaviour, status in refusals.items():
            if self._does(behaviour):
                return status
        if self._does(Behaviour.SLOW):
            time.sleep(self.pause_s)
        if self._does(Behaviour.LOSES):
            return 0x0000
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        coerced = self._changed(dataset)
        stream = BytesIO()
        dataset.save_as(stream, enforce_file_format=True)
        uid = str(dataset.SOPInstanceUID)
        with suppress(Exception):  # the first stays, in silence, as in Orthanc
            self.content.store([Instance(uid, stream.getvalue())])
        return 0xB000 if coerced else 0x0000

    def _changed(self, dataset: Dataset) -> bool:
        if self._does(Behaviour.MOVES_PRIVATE):
            for element in [e for e in dataset if e.tag.is_private]:
                del dataset[element.tag]
                block = 0x10 if element.tag.is_private_creator else element.tag.element >> 8
                place = (
                    block + 0x20 if element.tag.is_private_creator else (block + 0x20) << 8 | element.tag.element & 0xFF
                )
                dataset.add_new(Tag(element.tag.group, place), element.VR, element.value)
        if self._does(Behaviour.DROPS_PRIVATE):
            dataset.remove_private_tags()
        if self._does(Behaviour.TRUNCATES):
            for element in dataset:
                if isinstance(element.value, bytes) and len(element.value) > self.limit:
                    element.value = element.value[: self.limit]
        if self._does(Behaviour.COERCES):
            dataset.PatientID = "COERCED"
            return True
        return False

    # Finding

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        """Answer a C-FIND."""
        asked = event.identifier
        level = _LEVELS[asked.QueryRetrieveLevel]
        if self._does(Behaviour.SLOW):
            time.sleep(self.pause_s)
        if not any(asked.get(keyword) for keyword in _KEYS) and self._does(Behaviour.KEEPS_TO_ITSELF):
            yield 0xA700, None
            return
        if not _hierarchical(asked, level):
            if self._does(Behaviour.STRICT):
                yield 0xA900, None
                return
            if self._does(Behaviour.STRICT_AND_SILENT):
                return
        if not any(asked.get(keyword) for keyword in _KEYS) and self._does(Behaviour.ENDS_WITH_A_ROW):
            yield from self._until_cancelled(event, level)
            return
        ignoring = self._does(Behaviour.WRONG_ROWS)
        for entry in self.content.find(level, Query()):
            if not ignoring and not _fits(entry, asked):
                continue
            row = _row(entry, level)
            if self._does(Behaviour.MALFORMED_ROWS):
                for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                    if keyword in row:
                        setattr(row, keyword, "")
            if level is Level.INSTANCE and self._does(Behaviour.NO_CLASSES):
                del row.SOPClassUID
            yield 0xFF00, row

    def _until_cancelled(self, event: evt.Event, level: Level) -> Iterator[tuple[int, Dataset | None]]:
        """One row, and a last answer with another; pynetdicom itself never sends the second."""
        row = _row(next(self.content.find(level, Query())), level)
        send = event.assoc.dimse.send_msg

        def sending(answer: Any, context_id: int) -> None:
            if answer.Status == _CANCELLED:
                answer.Identifier = BytesIO(encode(row, True, True) or b"")
            send(answer, context_id)

        event.assoc.dimse.send_msg = sending  # type: ignore[method-assign,assignment]
        yield 0xFF00, row
        end = time.monotonic() + self.pause_s
        while not event.is_cancelled and time.monotonic() < end:
            time.sleep(0.002)
        yield _CANCELLED, None

    # Sending

    def get(self, event: evt.Event) -> Iterator[Any]:
        """Answer a C-GET."""
        yield from self._sent(event, len(self._asked_for(event.identifier)))

    def move(self, event: evt.Event) -> Iterator[Any]:
        """Answer a C-MOVE, to the one address that it knows."""
        yield "127.0.0.1", self.move_port, {"evt_handlers": [(evt.EVT_CONN_OPEN, self.opened)]}
        yield from self._sent(event, len(self._asked_for(event.identifier)))

    def _asked_for(self, asked: Dataset) -> list[Instance]:
        uids = asked.get("SOPInstanceUID", "")
        wanted = [str(uid) for uid in uids] if isinstance(uids, (list, pydicom.multival.MultiValue)) else [str(uids)]
        found = list(self.content.instances(str(asked.SeriesInstanceUID), wanted))
        return [] if len(wanted) > 1 and self.behaviour == Behaviour.ONE_BY_ONE else found

    def _sent(self, event: evt.Event, count: int) -> Iterator[Any]:
        found = self._asked_for(event.identifier)
        if self._does(Behaviour.ABORTS):
            event.assoc.abort()
            yield 0
            return
        if self._does(Behaviour.SENDS_NONE):
            found, count = [], 0
        if self._does(Behaviour.SLOW):
            time.sleep(self.pause_s)
        unasked = self._does(Behaviour.UNASKED)
        yield count + unasked
        for number, instance in enumerate(found):
            dataset = pydicom.dcmread(BytesIO(instance.data))
            if (number == 1 and self._does(Behaviour.RESETS_BETWEEN)) or self._does(Behaviour.RESETS_SENDING):
                _reset(event)
                return
            if number == 0 and self._does(Behaviour.FAILS_SOME):
                dataset.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.88.34")  # for which nobody has asked
            if number == 0 and self._does(Behaviour.ANOTHER):
                dataset.SeriesInstanceUID = "1.2.99.99"
            yield 0xFF00, dataset
            if unasked and number == 0:
                dataset.SOPInstanceUID = "1.2.99.99.1"
                yield 0xFF00, dataset


@contextmanager
def running_scp(behaviour: Behaviour = Behaviour.GOOD, **changes: Any) -> Iterator[MisbehavingScp]:
    """The archive until the block ends; its behaviour may be changed meanwhile, but for what it negotiates."""
    scp = MisbehavingScp(behaviour=behaviour, **changes)
    ae = AE("SCP")
    ae.maximum_pdu_size = 131072
    ae.maximum_associations = 32
    if behaviour == Behaviour.BUSY:
        ae._maximum_associations = 0
    ae.require_calling_aet = ["SOMEBODY"] if behaviour == Behaviour.REJECTS_CALLER else []
    ae.require_called_aet = behaviour == Behaviour.REJECTS_CALLED
    if ae.require_called_aet:
        ae.ae_title = "ANOTHER"
    for taken in _TAKEN:
        if behaviour != Behaviour.REFUSES_CLASS or taken != RawDataStorage:
            ae.add_supported_context(taken, ALL_TRANSFER_SYNTAXES, scu_role=True, scp_role=True)
        ae.add_requested_context(taken, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    for service in (VERIFICATION, FIND, GET, MOVE):
        ae.add_supported_context(service, ImplicitVRLittleEndian)
    handlers: list[Any] = [
        (evt.EVT_CONN_OPEN, scp.opened),
        (evt.EVT_C_STORE, scp.store),
        (evt.EVT_C_FIND, scp.find),
        (evt.EVT_C_GET, scp.get),
        (evt.EVT_C_MOVE, scp.move),
    ]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=scp.tls)
    assert server is not None
    scp.port = int(server.server_address[1])
    try:
        yield scp
    finally:
        server.shutdown()
        for connected in scp.connections:
            connected.close()


def _reset(event: evt.Event) -> None:
    """Close the connection as a machine does that goes down."""
    carried = event.assoc.dul.socket
    connected = carried.socket if carried else None
    if connected is not None:
        with suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)


def _hierarchical(asked: Dataset, level: Level) -> bool:
    above = {Level.STUDY: (), Level.SERIES: ("StudyInstanceUID",)}.get(level, ("StudyInstanceUID", "SeriesInstanceUID"))
    return all(asked.get(keyword) for keyword in above)


_KEYS = {
    "PatientID": "patient_id",
    "StudyInstanceUID": "study_uid",
    "SeriesInstanceUID": "series_uid",
    "SOPInstanceUID": "sop_uid",
    "SOPClassUID": "sop_class",
    "Modality": "modality",
    "ContentLabel": "content_label",
}


def _fits(entry: Entry, asked: Dataset) -> bool:
    for keyword, name in _KEYS.items():
        value = asked.get(keyword)
        if value in (None, ""):
            continue
        several = isinstance(value, (list, pydicom.multival.MultiValue))
        if getattr(entry, name) not in ([str(v) for v in value] if several else [str(value)]):
            return False
    return True


def _row(entry: Entry, level: Level) -> Dataset:
    """A row as a plain archive answers it: the level's own attributes and the unique keys above."""
    row = Dataset()
    row.SpecificCharacterSet = "ISO_IR 192"
    row.QueryRetrieveLevel = {v: k for k, v in _LEVELS.items()}[level]
    row.StudyInstanceUID = entry.study_uid
    if level is Level.STUDY:
        row.PatientID, row.StudyDescription = entry.patient_id, entry.description
        return row
    row.SeriesInstanceUID = entry.series_uid
    if level is Level.SERIES:
        row.Modality, row.SeriesDescription = entry.modality, entry.description
        return row
    row.SOPInstanceUID, row.SOPClassUID, row.ContentLabel = entry.sop_uid, entry.sop_class, entry.content_label
    return row
