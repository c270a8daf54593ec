"""How the DICOMweb door connects: certificates, proxy, credentials, and what it says of them in logs and errors."""

from __future__ import annotations

import base64
import logging
import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from residency.archive import Level, Query
from residency.archives import patience
from residency.archives.dicomweb import DicomWeb
from residency.errors import ArchiveError, ConfigError, CredentialsError, UnreachableError
from residency.settings import ArchiveSettings
from residency.testing.archive import data_set, instance
from residency.testing.certificates import certificates
from residency.testing.misbehaving_web import Asked, Behaviour, Reply, WebArchive, web_archive

SECRET = "a-secret-of-the-test"


def _ask(settings: ArchiveSettings) -> int:
    """How many instances the door finds."""
    door = DicomWeb(settings)
    try:
        return len(list(door.find(Level.INSTANCE, Query())))
    finally:
        door.close()


@pytest.fixture
def service() -> Iterator[WebArchive]:
    with web_archive() as service:
        service.memory.store([instance(data_set("1.2.1.1.1", PatientID="MARKED-PATIENT"))])
        yield service


# Certificates


def test_a_private_authority_is_trusted_where_it_is_named(tmp_path: Path) -> None:
    made = certificates(tmp_path)
    with web_archive(made.context()) as service:
        assert _ask(ArchiveSettings(url=service.url, ca_file=made.authority)) == 0
        with pytest.raises(UnreachableError, match="'ca_file'"):
            _ask(ArchiveSettings(url=service.url))


def test_a_certificate_of_another_host_is_refused(tmp_path: Path) -> None:
    made = certificates(tmp_path, address="127.0.0.2")
    with web_archive(made.context()) as service, pytest.raises(UnreachableError, match="not trusted here"):
        _ask(ArchiveSettings(url=service.url, ca_file=made.authority))


def test_our_certificate_is_shown_where_the_archive_asks(tmp_path: Path) -> None:
    made = certificates(tmp_path)
    with web_archive(made.context(ask_client=True)) as service:
        known = ArchiveSettings(url=service.url, ca_file=made.authority, retries=0)
        ours = {"client_certificate": made.client, "client_key": made.client_key}
        assert _ask(known.model_copy(update=ours)) == 0
        with pytest.raises(CredentialsError, match="'client_certificate'"):
            _ask(known)


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate", "ascii")
    for file in ("ca.pem", "absent.pem"):
        with pytest.raises(ConfigError, match=rf"ca_file .*{file}"):
            DicomWeb(ArchiveSettings(url="https://127.0.0.1:1/dicom-web", ca_file=tmp_path / file))


# Proxy


class _Proxy(socketserver.BaseRequestHandler):
    """Carries plain requests on to their host; what it was asked for is kept."""

    def handle(self) -> None:
        head = self.request.recv(65536)
        self.server.asked.append(head.split(b"\r\n")[0])
        host, port = head.split(b" ")[1].split(b"/")[2].split(b":")
        with socket.create_connection((host.decode(), int(port))) as onward:
            onward.sendall(head)
            while True:
                ready, _, _ = select.select([self.request, onward], [], [], 5)
                for end in ready:
                    data = end.recv(65536)
                    if not data:
                        return
                    (onward if end is self.request else self.request).sendall(data)


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[bytes]]]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Proxy) as server:
        server.daemon_threads = True
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", server.asked
        server.shutdown()
        thread.join()


def test_a_proxy_is_used_where_it_is_set(service: WebArchive, proxy: tuple[str, list[bytes]]) -> None:
    address, asked = proxy
    assert _ask(ArchiveSettings(url=service.url, proxy=address)) == 1
    assert asked
    assert asked[0].startswith(f"GET {service.url}/instances".encode())


def test_proxies_of_the_environment_are_not_used(service: WebArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that somebody set for a browser must not send patients' data through another machine."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert _ask(ArchiveSettings(url=service.url)) == 1


def test_a_proxy_that_is_away_is_said(service: WebArchive) -> None:
    with pytest.raises(UnreachableError):
        _ask(ArchiveSettings(url=service.url, proxy="http://127.0.0.1:9", retries=0))


# Credentials


def test_a_password_comes_from_its_file_or_variable(
    service: WebArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.login = "Basic " + base64.b64encode(f"ward:{SECRET}".encode()).decode()
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n", "utf-8")
    monkeypatch.setenv("TEST_PASSWORD", SECRET)
    assert _ask(ArchiveSettings(url=service.url, user="ward", password_file=file)) == 1
    assert _ask(ArchiveSettings(url=service.url, user="ward", password_env="TEST_PASSWORD")) == 1
    with pytest.raises(CredentialsError, match="401"):
        _ask(ArchiveSettings(url=service.url))


def test_a_token_that_is_renewed_is_used_from_then_on(service: WebArchive, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first", "utf-8")
    door = DicomWeb(ArchiveSettings(url=service.url, token_file=file))
    list(door.find(Level.STUDY, Query()))
    file.write_text("second\n", "utf-8")
    list(door.find(Level.STUDY, Query()))
    assert [asked.authorization for asked in service.asked] == ["Bearer first", "Bearer second"]
    door.close()


@pytest.mark.parametrize("written", [None, "", "\n", "two\x07tones"])
def test_a_secret_that_cannot_be_read_is_said(service: WebArchive, tmp_path: Path, written: str | None) -> None:
    file = tmp_path / "password"
    if written is not None:
        file.write_text(written, "utf-8")
    with pytest.raises(CredentialsError, match=str(file)) as error:
        _ask(ArchiveSettings(url=service.url, user="ward", password_file=file))
    assert "tones" not in str(error.value)


def test_no_redirection_takes_credentials_to_another_host(service: WebArchive, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET, "utf-8")
    with web_archive() as other:
        away = Reply(302, headers={"Location": f"{other.url}/instances"})
        service.behaviour = Behaviour(before=lambda _: away)
        with pytest.raises(Exception, match="not followed"):
            _ask(ArchiveSettings(url=service.url, token_file=file))
        assert other.asked == []


def test_neither_secrets_nor_patients_are_logged_or_shown(
    service: WebArchive, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With every logger at its most talkative, as a support engineer sets it."""
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "token"
    file.write_text(SECRET, "utf-8")
    settings = ArchiveSettings(url=service.url, token_file=file, retries=0)
    door = DicomWeb(settings)
    assert len(list(door.find(Level.INSTANCE, Query(patient_id="MARKED-PATIENT", study_uid="1.2.1")))) == 1
    assert len(list(door.instances("1.2.1.1"))) == 1
    said = [caplog.text, repr(door), repr(vars(door)), str(vars(door._web)), door.url]
    for status in (400, 401, 500, 503):
        service.behaviour = Behaviour(before=lambda _, status=status: Reply(status, b"MARKED-PATIENT"))
        with pytest.raises(Exception, match=str(status)) as error:
            list(door.find(Level.STUDY, Query(patient_id="MARKED-PATIENT")))
        said.append(str(error.value))
    said.append(caplog.text)
    assert not [text for text in said if "MARKED" in text or SECRET in text]
    assert all("MARKED" not in asked.path and SECRET not in asked.path for asked in service.asked)
    door.close()


# Patience


def test_waiting_doubles_never_in_step_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", slept.append)
    for attempt in range(1, 12):
        patience.wait(attempt)
    assert all(0.05 * 2**k <= slept[k] <= 0.1 * 2**k for k in range(6))
    assert max(slept) <= patience.LONGEST_WAIT_S
    slept.clear()
    patience.wait(1, asked_s=3.0)
    patience.wait(1, asked_s=1e9)
    assert slept == [3.0, patience.LONGEST_ASKED_S]


def test_an_archive_is_asked_again_when_it_wants(service: WebArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", slept.append)
    replies = [
        Reply(503, headers={"Retry-After": "7"}),
        Reply(429, headers={"Retry-After": "Sat, 21 Nov 2126 15:00:00 GMT"}),
        Reply(502, headers={"Retry-After": "soon"}),
    ]

    def busy(_: Asked) -> Reply | None:
        return replies.pop(0) if replies else None

    service.behaviour = Behaviour(before=busy)
    assert _ask(ArchiveSettings(url=service.url)) == 1
    assert slept[:2] == [7.0, patience.LONGEST_ASKED_S]
    assert slept[2] < 1


@pytest.mark.parametrize("where", ["headers", "body"])
def test_an_answer_that_drips_has_an_end(service: WebArchive, where: str) -> None:
    """Each wait is short, and together they would never end."""
    service.behaviour = Behaviour(before=lambda _: Reply(200, drip=where))
    with pytest.raises(UnreachableError, match="'timeout_s'"):
        _ask(ArchiveSettings(url=service.url, timeout_s=0.1, retries=0))


@pytest.mark.parametrize("url", ["https:///dicom-web", "http://host/dicom-web?a=b", "http://host:port/x"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        DicomWeb(ArchiveSettings(url=url))


def test_nobody_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(UnreachableError, match="cannot be reached"):
        _ask(ArchiveSettings(url=f"http://127.0.0.1:{port}/dicom-web", retries=1))


# Addresses that are nearly right


def _failing(url: str) -> str:
    with pytest.raises(ArchiveError) as raised:
        _ask(ArchiveSettings(url=url, retries=0, timeout_s=5))
    return str(raised.value)


def test_a_base_url_that_is_not_that_of_the_service_is_suspected(service: WebArchive) -> None:
    service.behaviour = Behaviour(before=lambda asked: Reply(404))
    assert "is 'url' what stands before /studies there?" in _failing(service.url)


def test_tls_to_a_port_that_speaks_none_is_said(service: WebArchive) -> None:
    assert "speaks no TLS: is this the right port, or is it http:// there?" in _failing(
        service.url.replace("http://", "https://")
    )


def test_http_to_a_port_that_hangs_up_is_said() -> None:
    """As DIMSE services do with what is no association."""

    class HangsUp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), HangsUp) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        said = _failing(f"http://127.0.0.1:{server.server_address[1]}/dicom-web")
        server.shutdown()
        thread.join()
    assert "is this the port of its DICOMweb service? DIMSE has one of its own" in said
