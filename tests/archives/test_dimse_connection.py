"""How the DIMSE door connects: addresses, certificates, what it takes from a peer that is none, and what it logs."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext

from residency.archive import Level, Query
from residency.archives.dimse import Dimse
from residency.archives.dimse.association import APPLICATION_CONTEXT, IMPLICIT, user_information
from residency.archives.dimse.identifiers import identifier
from residency.errors import AnswerError, ArchiveError, ConfigError, CredentialsError, UnreachableError
from residency.settings import ArchiveSettings
from residency.testing.archive import data_set, instance
from residency.testing.certificates import certificates
from residency.testing.misbehaving_scp import Behaviour, running_scp


@contextmanager
def _peer_that_says(said: bytes) -> Iterator[ArchiveSettings]:
    """A socket that answers whatever comes with these bytes and then closes."""

    def answer(server: socket.socket) -> None:
        connected, _ = server.accept()
        with connected:
            connected.recv(65536)
            connected.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        url = f"dimse://127.0.0.1:{server.getsockname()[1]}/ANY"
        yield ArchiveSettings(url=url, timeout_s=2.0, retries=0)
        thread.join()


# Addresses


@pytest.mark.parametrize(
    "url",
    [
        "dimse://host",
        "dimse://host:104",
        "dimse://host/AE",
        "dimse://host:104/SEVENTEEN-LETTERS",
        "dimse://host:99999/AE",
        "dimse://:104/AE",
        "dimse://host:104/A%5CE",
        "dimse://host:104/AE?query",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="dimse://HOST:PORT/AE_TITLE"):
        Dimse(ArchiveSettings(url=url))


def test_nobody_there_is_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UnreachableError, match="cannot be reached"):
        Dimse(ArchiveSettings(url=f"dimse://127.0.0.1:{port}/ANY", retries=0)).echo()


def test_an_archive_answers_an_echo() -> None:
    with running_scp() as scp:
        Dimse(scp.settings(timeout_s=10.0)).echo()


@pytest.mark.parametrize("behaviour", [Behaviour.REJECTS_CALLER, Behaviour.REJECTS_CALLED])
def test_an_unknown_title_is_named(behaviour: Behaviour) -> None:
    title = "RESIDENCY" if behaviour == Behaviour.REJECTS_CALLER else "SCP"
    with running_scp(behaviour) as scp, pytest.raises(CredentialsError, match=rf"AE title \({title}\)"):
        Dimse(scp.settings(timeout_s=10.0)).echo()


# Certificates


def test_a_private_authority_is_trusted_where_it_is_named(tmp_path: Path) -> None:
    made = certificates(tmp_path)
    with running_scp(tls=made.context()) as scp:
        Dimse(scp.settings(timeout_s=10.0, ca_file=made.authority)).echo()
        with pytest.raises(UnreachableError, match="ca_file"):
            Dimse(scp.settings(timeout_s=10.0)).echo()


def test_our_certificate_is_shown_where_the_archive_asks(tmp_path: Path) -> None:
    made = certificates(tmp_path)
    with running_scp(tls=made.context(ask_client=True)) as scp:
        known = scp.settings(timeout_s=10.0, ca_file=made.authority)
        ours = {"client_certificate": made.client, "client_key": made.client_key}
        Dimse(known.model_copy(update=ours)).echo()
        with pytest.raises(CredentialsError, match="client_certificate"):
            Dimse(known).echo()


def test_a_key_behind_a_passphrase_is_refused_and_not_asked_for(tmp_path: Path) -> None:
    """A service that asks on a terminal waits for ever."""
    made = certificates(tmp_path)
    key = serialization.load_pem_private_key(made.client_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    locked = serialization.BestAvailableEncryption(b"passphrase")
    made.client_key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    )
    ours = {"client_certificate": made.client, "client_key": made.client_key}
    with pytest.raises(ConfigError, match="client_certificate"):
        Dimse(ArchiveSettings(url="dimses://127.0.0.1:104/ANY", **ours))


def test_images_travel_over_tls(tmp_path: Path) -> None:
    made = certificates(tmp_path)
    big = data_set("1.2.1.1.1", Rows=512, Columns=512)
    big.PixelData = bytes(range(256)) * 2048
    with running_scp(tls=made.context()) as scp:
        door = Dimse(scp.settings(timeout_s=10.0, ca_file=made.authority))
        door.store([instance(big)])
        (back,) = door.instances("1.2.1.1")
    assert back.data.endswith(big.PixelData)


# Hostile peers


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", UnreachableError),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", AnswerError),
        (struct.pack(">BxI", 2, 2**32 - 1), AnswerError),
        (struct.pack(">BxI", 2, 100) + bytes(100), AnswerError),
        (struct.pack(">BxI", 3, 4) + bytes(4), AnswerError),
        (struct.pack(">BxI", 3, 4) + bytes((0, 1, 1, 3)), CredentialsError),
        (struct.pack(">BxI", 3, 4) + bytes((0, 2, 3, 2)), UnreachableError),
        (struct.pack(">BxI", 4, 200) + bytes(200), AnswerError),
        (struct.pack(">BxI", 7, 4) + bytes(4), UnreachableError),
    ],
)
def test_what_is_no_association_is_refused(said: bytes, error: type[ArchiveError]) -> None:
    """Among them a PDU that announces four gigabytes: nothing is allocated for it."""
    with _peer_that_says(said) as settings, pytest.raises(error):
        Dimse(settings).echo()


@contextmanager
def _peer_that_drips(pieces: Iterable[bytes]) -> Iterator[ArchiveSettings]:
    """A socket that grants an association for C-ECHO and then sends these pieces, a moment apart, for ever."""
    granted = A_ASSOCIATE_AC(_granted()).encode()
    over = threading.Event()

    def answer(server: socket.socket) -> None:
        connected, _ = server.accept()
        with connected, suppress(OSError):
            connected.recv(65536)
            connected.sendall(granted)
            connected.recv(65536)
            for piece in pieces:
                connected.sendall(piece)
                if over.wait(0.01):
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        url = f"dimse://127.0.0.1:{server.getsockname()[1]}/ANY"
        yield ArchiveSettings(url=url, timeout_s=0.1, retries=0)
        over.set()
        thread.join()


def _granted() -> A_ASSOCIATE:
    """What an archive answers to the proposal of one context."""
    answer = A_ASSOCIATE()
    answer.application_context_name = APPLICATION_CONTEXT
    answer.calling_ae_title, answer.called_ae_title = "RESIDENCY", "ANY"
    context = PresentationContext()
    context.context_id, context.result, context.transfer_syntax = 1, 0, [IMPLICIT]
    answer.presentation_context_definition_results_list = [context]
    answer.user_information = user_information()
    answer.result, answer.result_source = 0, 1
    return answer


def _data_pdu(data: bytes) -> bytes:
    """A piece of a command set that goes on."""
    return struct.pack(">BxIIBB", 4, len(data) + 6, len(data) + 2, 1, 1) + data


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        (repeat(_data_pdu(b"x")), UnreachableError),
        (repeat(_data_pdu(b"")), AnswerError),
        (chain([_data_pdu(bytes(1000))[:20]], repeat(b"x")), UnreachableError),
    ],
)
def test_an_answer_that_drips_has_an_end(pieces: Iterable[bytes], error: type[ArchiveError]) -> None:
    """Each wait is short, and together they would never end: a byte a PDU, none at all, a byte at a time."""
    with _peer_that_drips(pieces) as settings, pytest.raises(error):
        Dimse(settings).echo()


def test_a_value_is_never_sent_as_a_pattern() -> None:
    for value in ("P*", "P?", "A\\B", " P", "P ", "ä", "\x1b$B", "P\n", "", "x" * 65):
        assert identifier(Level.STUDY, (), {"patient_id": value}) == identifier(Level.STUDY, (), {})
    assert identifier(Level.STUDY, (), {"patient_id": "P-1 (x)"}) != identifier(Level.STUDY, (), {})


def test_nothing_of_a_patient_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What the other side logs is its own business: it is switched off here."""
    marked = data_set("1.2.1.1.1", PatientID="MARKED-PATIENT", PatientName="MARKED^NAME", SeriesDescription="MARKED")
    with running_scp() as scp, caplog.at_level(logging.DEBUG):
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
        try:
            door = Dimse(scp.settings(timeout_s=10.0))
            door.store([instance(marked)])
            assert list(door.find(Level.STUDY, Query(patient_id="MARKED-PATIENT")))
            assert list(door.instances("1.2.1.1"))
        finally:
            logging.getLogger("pynetdicom").setLevel(logging.NOTSET)
    assert "MARKED" not in caplog.text
