"""One archive's web server: requests with credentials, answers as bounded streams, failures as our own errors.

What a server says about a failure is not repeated, since it may name a patient; its status and our own words are.
"""

from __future__ import annotations

import http
import logging
import ssl
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from residency.archives import tls
from residency.archives.dicomweb.credentials import Credentials
from residency.archives.dicomweb.pace import PacedBackend
from residency.errors import (
    AnswerError,
    ArchiveError,
    ConfigError,
    CredentialsError,
    RejectedError,
    UnconfirmedError,
    UnreachableError,
)
from residency.settings import ArchiveSettings

_BUSY = frozenset((429, 502, 503, 504))
_CREDENTIALS = frozenset((401, 403, 407))
_KEPT_OPEN_S = 0.9
"""Orthanc closes a connection that was idle for a second; a request that crosses with that is lost."""
_INFLATED_AT_ONCE = 2**20

# They would write URLs into our log, with Patient IDs and UIDs in them (httpx at INFO, httpcore at DEBUG).
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class BusyError(UnreachableError):
    """The archive has no time now; `after_s` is when it wants to be asked again."""

    def __init__(self, message: str, after_s: float) -> None:
        super().__init__(message, retry=True)
        self.after_s = after_s


class StatusError(RejectedError):
    """An answer other than success; `status` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """A status and headers; `chunks` is the body without its content coding, and can be read once."""

    status: int
    content_type: str
    headers: Mapping[str, str]
    chunks: Iterator[bytes]


class Web:
    """Requests to the service below one base URL. Connections are kept between requests until `close`."""

    def __init__(self, settings: ArchiveSettings) -> None:
        """Raises ConfigError for certificates or a proxy that cannot be used. Nothing is sent yet."""
        self.url = settings.url.rstrip("/")
        parts = urlsplit(self.url)
        try:
            if not parts.hostname or parts.query or parts.fragment or parts.port == 0:
                raise ValueError("a DICOMweb archive is addressed as https://HOST:PORT/PATH, without a query")
            self._client = httpx.Client(
                auth=Credentials(settings),
                transport=_transport(settings, tls.towards(settings) if parts.scheme == "https" else False),
                trust_env=False,
                follow_redirects=False,
                timeout=settings.timeout_s,
                headers={"User-Agent": "Residency"},
            )
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            raise ConfigError(f"the archive's URL or proxy cannot be used: {error}") from None

    @contextmanager
    def get(
        self,
        path: str,
        accept: str,
        *,
        query: str = "",
        compressed: bool = False,
        first_bytes: int | None = None,
        absent: Sequence[int] = (),
    ) -> Iterator[Answer]:
        """The answer to one GET below the base URL.

        path, query  of known characters only, percent-coded where needed
        compressed   may come in gzip; bulk comes as it is, since packing pixels takes longer than sending them
        first_bytes  ask for a range; most archives give the whole all the same
        absent       statuses that are answers here, such as 404
        """
        headers = {"Accept": accept, "Accept-Encoding": "gzip" if compressed else "identity"}
        if first_bytes is not None:
            headers["Range"] = f"bytes=0-{first_bytes - 1}"
        request = self._client.build_request("GET", f"{self.url}{path}{'?' + query if query else ''}", headers=headers)
        with self._answer(request, absent) as answer:
            yield answer

    @contextmanager
    def post(
        self, path: str, body: Iterable[bytes], length: int, headers: Mapping[str, str], answers: Sequence[int]
    ) -> Iterator[Answer]:
        """The answer to one POST of a body of known length. UnconfirmedError where sending began and none came."""
        given = {**headers, "Content-Length": str(length), "Accept-Encoding": "identity"}
        request = self._client.build_request("POST", f"{self.url}{path}", content=body, headers=given)
        try:
            with self._answer(request, answers) as answer:
                yield answer
        except (UnreachableError, AnswerError) as error:
            if not error.retry or isinstance(error, BusyError) or not _may_have_arrived(error.__cause__):
                raise
            raise UnconfirmedError(
                f"{self.url}: the answer to storing was lost ({error}); what is stored is not known. Store again, "
                "which is harmless",
                retry=True,
            ) from None

    def close(self) -> None:
        """Close what is kept open."""
        self._client.close()

    @contextmanager
    def _answer(self, request: httpx.Request, accepted: Sequence[int]) -> Iterator[Answer]:
        try:
            response = self._client.send(request, stream=True)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise self._failure(error, request.method) from error
        try:
            self._check_status(response, accepted)
            yield Answer(
                response.status_code,
                response.headers.get("content-type", ""),
                response.headers,
                _plain(self._raw(response), response.headers.get("content-encoding", "")),
            )
        except AnswerError as error:
            if self.url not in str(error):
                error.args = (f"{self.url}: {error}",)
            raise
        finally:
            response.close()

    def _raw(self, response: httpx.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_raw()
        except httpx.TransportError as error:
            raise self._failure(error) from error

    def _check_status(self, response: httpx.Response, accepted: Sequence[int]) -> None:
        status = response.status_code
        if 200 <= status < 300 or status in accepted:
            return
        said = f"{self.url} answers {status} {_words(status)}".rstrip()
        if status in _BUSY:
            raise BusyError(f"{said}: it is busy or away, try again later", _retry_after(response))
        if status in _CREDENTIALS:
            raise CredentialsError(f"{said}: check the credentials in the archive's settings and what they permit")
        if 300 <= status < 400:
            raise RejectedError(
                f"{said} to another address, which is not followed: credentials go to no other host. Put the right "
                "address into 'url'"
            )
        hint = {
            404: ": is 'url' what stands before /studies there?",
            413: ": the request is larger than it takes; raise the limit there",
            415: ": it does not take this kind of object or media type",
            406: ": it does not give this media type",
        }.get(status, "")
        raise StatusError(said + hint, status)

    def _failure(self, error: Exception, method: str = "") -> ArchiveError:
        """Whose turn it is, in our own words: the library's messages hold addresses and server text."""
        reason = _tls_reason(error)
        if reason is not None:
            return self._tls_failure(reason)
        if isinstance(error, httpx.TimeoutException):
            return UnreachableError(f"{self.url} did not answer in time; see 'timeout_s'", retry=True)
        if isinstance(error, httpx.ProxyError):
            return UnreachableError("the archive's proxy refuses the connection: check 'proxy' in its settings")
        if isinstance(error, httpx.RemoteProtocolError):
            said = str(error)
            if "complete message body" in said:
                return AnswerError(f"{self.url} cut its answer short: fewer bytes came than it announced", retry=True)
            if "disconnected" not in said:
                return AnswerError(f"{self.url} does not answer in HTTP: is this the address of its DICOMweb service?")
        if isinstance(error, httpx.ConnectError):
            return UnreachableError(
                f"{self.url} cannot be reached: is the address right, and the service running?", retry=True
            )
        if method == "GET" and "without sending a response" in str(error):
            return UnreachableError(
                f"{self.url} closed the connection without an answer: is this the port of its DICOMweb service? DIMSE "
                "has one of its own",
                retry=True,
            )
        if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
            return UnreachableError(f"{self.url} closed the connection before its answer was complete", retry=True)
        return UnreachableError(f"{self.url} cannot be reached this way ({type(error).__name__})")

    def _tls_failure(self, error: ssl.SSLError) -> ArchiveError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return UnreachableError(
                f"{self.url} shows a certificate that is not trusted here ({error.verify_message}): name the authority "
                "that signed it with 'ca_file'"
            )
        if "CERTIFICATE" in (error.reason or ""):
            return CredentialsError(
                f"{self.url} wants a certificate of ours that it knows: set 'client_certificate' and 'client_key'"
            )
        if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
            return UnreachableError(f"{self.url} speaks no TLS: is this the right port, or is it http:// there?")
        return UnreachableError(f"{self.url} and we agree on no encrypted connection ({error.reason or 'TLS'})")


def _transport(settings: ArchiveSettings, verify: ssl.SSLContext | bool) -> httpx.HTTPTransport:
    limits = httpx.Limits(max_connections=None, keepalive_expiry=_KEPT_OPEN_S)
    made = httpx.HTTPTransport(verify=verify, proxy=settings.proxy, trust_env=False, limits=limits)
    # httpx has no way to hand httpcore its backend; a test drips headers to see that this one is used.
    made._pool._network_backend = PacedBackend(settings.timeout_s)
    return made


def _words(status: int) -> str:
    try:
        return f"({http.HTTPStatus(status).phrase})"
    except ValueError:
        return ""


def _may_have_arrived(cause: BaseException | None) -> bool:
    """Whether a request that failed so may have been taken: not where no connection came about."""
    return not isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError | httpx.PoolTimeout)


def _retry_after(response: httpx.Response) -> float:
    """Seconds, from a number or a date (RFC 9110 10.2.3); 0 where it says nothing that can be read."""
    said = response.headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return float(said[:9])
    try:
        return max(0.0, (parsedate_to_datetime(said) - parsedate_to_datetime(response.headers["date"])).total_seconds())
    except (ValueError, TypeError, KeyError):
        return 0.0


def _tls_reason(error: BaseException | None) -> ssl.SSLError | None:
    """The TLS failure behind an error of the HTTP library."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return error
        error, seen = error.__cause__ or error.__context__, seen + 1
    return None


def _plain(chunks: Iterator[bytes], coding: str) -> Iterator[bytes]:
    """The body without gzip, in small pieces: who reads it bounds how much of it is kept."""
    if coding in ("", "identity"):
        yield from chunks
        return
    if coding != "gzip":
        raise AnswerError("the archive's answer is packed in a way that was not asked for")
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        for chunk in chunks:
            packed = chunk
            while packed:
                if unpacker.eof:  # zlib would keep all of it
                    raise AnswerError("the archive's packed answer goes on behind its end")
                yield unpacker.decompress(packed, _INFLATED_AT_ONCE)
                packed = unpacker.unconsumed_tail
    except zlib.error:
        raise AnswerError("the archive's packed answer is damaged", retry=True) from None
    if not unpacker.eof:
        raise AnswerError("the archive's packed answer is cut short", retry=True)
