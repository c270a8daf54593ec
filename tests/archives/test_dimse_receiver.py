"""The storage SCP that C-MOVE sends to stands open to the network: what it refuses."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association

from residency.archives.dimse.association import peer_of
from residency.archives.dimse.receiver import Receiver
from residency.archives.dimse.retrieve import Wanted
from residency.settings import ArchiveSettings
from residency.testing.archive import data_set, instance

MR = "1.2.840.10008.5.1.4.1.1.4"
CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    settings = ArchiveSettings(url="dimse://127.0.0.1:104/ARCHIVE", timeout_s=1.0)
    receiver = Receiver(settings, peer_of(settings))
    yield receiver
    receiver.close()


@contextmanager
def _sender(receiver: Receiver, *classes: str, called: str = "RESIDENCY") -> Iterator[Association]:
    ae = AE("ANYBODY")
    for sop_class in classes:
        ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
    opened: list[socket.socket] = []  # pynetdicom forgets to close one that its peer has ended first
    handlers = [(evt.EVT_CONN_OPEN, lambda event: opened.append(event.assoc.dul.socket.socket))]
    association = ae.associate("127.0.0.1", receiver.port, ae_title=called, evt_handlers=handlers)
    try:
        yield association
    finally:
        association.abort()
        for connected in opened:
            connected.close()


def _image(uid: str) -> Dataset:
    return pydicom.dcmread(BytesIO(instance(data_set(uid)).data))


def test_who_calls_us_by_another_name_is_rejected(receiver: Receiver) -> None:
    with _sender(receiver, VERIFICATION, called="SOMEBODY") as association:
        assert association.is_rejected
    with _sender(receiver, VERIFICATION) as association:
        assert association.send_c_echo().Status == 0


def test_nothing_is_taken_while_nobody_waits(receiver: Receiver) -> None:
    with _sender(receiver, MR, VERIFICATION) as association:
        assert [context.abstract_syntax for context in association.accepted_contexts] == [VERIFICATION]


def test_only_what_is_waited_for_is_taken(receiver: Receiver) -> None:
    """Of its classes only, and of those only the instances that were asked for."""
    with (
        receiver._expecting(Wanted("1.2.1", "1.2.1.1", {"1.2.1.1.1": MR})) as waiting,
        _sender(receiver, MR, CT) as association,
    ):
        assert [context.abstract_syntax for context in association.accepted_contexts] == [MR]
        assert association.send_c_store(_image("1.2.1.1.2")).Status == 0x0124
        assert association.send_c_store(_image("1.2.1.1.1")).Status == 0
        assert association.send_c_store(_image("1.2.1.1.1")).Status == 0x0124, "it comes once"
        assert waiting.came.qsize() == 1


@pytest.mark.parametrize(
    "said",
    [
        struct.pack(">BxI", 1, 2**32 - 1),
        struct.pack(">BxI", 1, 100) + bytes(100),
        struct.pack(">BxI", 4, 10) + bytes(10),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_association_is_closed(receiver: Receiver, said: bytes) -> None:
    """Among them a PDU that announces four gigabytes: nothing is allocated for it."""
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=5) as connected:
        connected.sendall(said)
        received = b""
        while piece := connected.recv(4096):
            received += piece
    assert received[:1] in (b"", b"\x07"), "an abort at most"


def test_more_connections_than_there_can_be_reason_for_are_closed(receiver: Receiver) -> None:
    """Each is a thread; those that say nothing are closed in time."""
    silent = [socket.create_connection(("127.0.0.1", receiver.port), timeout=5) for _ in range(16)]
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=5) as more:
        assert more.recv(1) == b""
    for connected in silent:
        while connected.recv(4096):
            pass
        connected.close()
    with _sender(receiver, VERIFICATION) as association:
        assert association.send_c_echo().Status == 0
