"""A small DICOMweb service in this process, over real sockets, that can be told to go wrong in one way at a time."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from residency.archive import Entry, Instance, Level, Query
from residency.archives.dicomweb.multipart import Body, parts
from residency.archives.memory import MemoryArchive
from residency.archives.part10 import LARGEST_INSTANCE, read_row
from residency.errors import ConflictError

_KEYWORDS = {
    "PatientID": "patient_id",
    "StudyInstanceUID": "study_uid",
    "SeriesInstanceUID": "series_uid",
    "SOPClassUID": "sop_class",
    "Modality": "modality",
    "ContentLabel": "content_label",
}
_TAGS = {
    "patient_id": ("00100020", "LO"),
    "study_uid": ("0020000D", "UI"),
    "series_uid": ("0020000E", "UI"),
    "sop_uid": ("00080018", "UI"),
    "sop_class": ("00080016", "UI"),
    "modality": ("00080060", "CS"),
    "content_label": ("00700080", "CS"),
}
_LEVELS = {"studies": Level.STUDY, "series": Level.SERIES, "instances": Level.INSTANCE}


@dataclass
class Reply:
    """What goes out. A behaviour may change any of it before."""

    status: int
    """0: the connection is closed without an answer."""
    body: bytes = b""
    content_type: str = "application/dicom+json"
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    """Content-Length where it is not that of the body."""
    reset_after: int | None = None
    """Bytes of the body after which the connection is reset."""
    drip: str = ""
    """"headers" or "body": from there on one byte comes at a time, a moment apart, without end."""


@dataclass(frozen=True)
class Asked:
    """One request: GET or POST, its path below the service, what it asks for, and whom it says it is from."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    authorization: str

    @property
    def kind(self) -> str:
        """store, find, or give."""
        if self.method == "POST":
            return "store"
        return "find" if self.path.rsplit("/", 1)[-1] in _LEVELS else "give"


@dataclass(frozen=True)
class Behaviour:
    """How it goes wrong: what it keeps of an instance, None for nothing; and what becomes of an answer."""

    keep: Callable[[bytes], bytes | None] = lambda data: data
    before: Callable[[Asked], Reply | None] = lambda _: None
    """A reply in place of the right one."""
    after: Callable[[Asked, Reply], Reply] = lambda _, reply: reply


class WebArchive:
    """The service while it runs. It keeps the first copy of a UID and says nothing of a second, as Orthanc does."""

    def __init__(self, port: int, scheme: str) -> None:
        self.url = f"{scheme}://127.0.0.1:{port}/dicom-web"
        self.memory = MemoryArchive()
        self.behaviour = Behaviour()
        self.login = ""
        """Where it is set, requests without this Authorization are answered 401."""
        self.asked: list[Asked] = []
        self._lock = threading.Lock()

    def reply(self, asked: Asked, body: bytes, content_type: str) -> Reply:
        with self._lock:
            self.asked.append(asked)
            behaviour = self.behaviour
        if self.login and asked.authorization != self.login:
            return Reply(401)
        wrong = behaviour.before(asked)
        if wrong is not None:
            return wrong
        right = {"store": self._store, "find": self._find, "give": self._give}[asked.kind](asked, body, content_type)
        return behaviour.after(asked, right)

    def _store(self, asked: Asked, body: bytes, content_type: str) -> Reply:
        stored = []
        for data in parts([body], content_type, largest=LARGEST_INSTANCE, most=10_000):
            row = read_row(data, "sent")
            stored.append({"00081150": _value("UI", row.sop_class), "00081155": _value("UI", row.sop_uid)})
            kept = self.behaviour.keep(data)
            if kept is not None:
                with suppress(ConflictError):
                    self.memory.store([Instance(row.sop_uid, kept)])
        answer = {"00081198": {"vr": "SQ"}, "00081199": {"vr": "SQ", "Value": stored}}
        return Reply(200, json.dumps(answer).encode())

    def _find(self, asked: Asked, body: bytes, content_type: str) -> Reply:
        *place, level = asked.path.strip("/").split("/")
        query = {_KEYWORDS[k]: v[0] for k, v in asked.query.items() if k in _KEYWORDS}
        query |= dict(zip(("study_uid", "series_uid"), place[1::2], strict=False))
        found = list(self.memory.find(_LEVELS[level], Query(**query)))
        listed = asked.query.get("SOPInstanceUID")
        if listed:
            found = [row for row in found if row.sop_uid in listed[0].split(",")]
        offset, limit = int(asked.query.get("offset", ["0"])[0]), int(asked.query.get("limit", ["1000"])[0])
        rows = [row_of_entry(entry) for entry in found[offset : offset + limit]]
        return Reply(200, json.dumps(rows).encode())

    def _give(self, asked: Asked, body: bytes, content_type: str) -> Reply:
        names = asked.path.strip("/").split("/")
        place = dict(zip(names[::2], names[1::2], strict=False))
        if names[-1] in ("metadata", "bulk") or "series" not in place:
            return Reply(404)
        wanted = [place["instances"]] if "instances" in place else None
        known = list(self.memory.find(Level.SERIES, Query(study_uid=place["studies"], series_uid=place["series"])))
        found = list(self.memory.instances(place["series"], wanted)) if known else []
        if not found:
            return Reply(404)
        made = Body([instance.data for instance in found], "application/dicom")
        return Reply(200, b"".join(made.pieces()), made.content_type)


def _value(vr: str, *values: object) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)}


def row_of_entry(entry: Entry) -> dict[str, Any]:
    """A row in the JSON model."""
    row = {tag: _value(vr, asdict(entry)[name]) for name, (tag, vr) in _TAGS.items() if asdict(entry)[name]}
    row["00201208" if not entry.series_uid else "00201209"] = _value("IS", entry.instances)
    row["00081030" if not entry.series_uid else "0008103E"] = _value("LO", entry.description)
    return row


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._respond(b"")

    def do_POST(self) -> None:
        self._respond(self.rfile.read(int(self.headers["Content-Length"])))

    def _respond(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        asked = Asked(
            self.command,
            unquote(parts.path).removeprefix("/dicom-web"),
            parse_qs(parts.query),
            self.headers.get("Authorization", ""),
        )
        reply = self.server.service.reply(asked, body, self.headers.get("Content-Type", ""))
        if reply.drip:
            self._drip(reply.drip)
            return
        if reply.status == 0:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
        self.end_headers()
        if reply.reset_after is not None:
            self.wfile.write(reply.body[: reply.reset_after])
            # To linger for no time at all is to reset (socket(7)).
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        self.wfile.write(reply.body)
        self.close_connection = reply.length is not None

    def _drip(self, where: str) -> None:
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\nX-Words: ")
        if where == "body":
            self.wfile.write(b"few\r\n\r\n[")
        with suppress(OSError):
            while not self.server.over.wait(0.01):
                self.wfile.write(b" " if where == "body" else b"x")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test's output is its own."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    service: WebArchive
    over: threading.Event

    def shutdown_request(self, request: Any) -> None:
        """Close; without the goodbye that comes before, where the connection is to be reset."""
        if struct.unpack("ii", request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))[0]:
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is what these tests are about."""


@contextmanager
def web_archive(tls: ssl.SSLContext | None = None) -> Iterator[WebArchive]:
    """A service on 127.0.0.1 until the block ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.over = threading.Event()
    server.service = WebArchive(server.server_address[1], "http" if tls is None else "https")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.service
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
