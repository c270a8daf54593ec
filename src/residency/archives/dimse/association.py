"""Associations as requestor (DICOM PS3.8 7.1, PS3.7 annex D): made, asked over, ended. One thread, one at a time."""

from __future__ import annotations

import logging
import socket
import ssl
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import IO, Any, cast
from urllib.parse import unquote, urlsplit

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext

from residency.archives import tls
from residency.archives.dimse.commands import Command, decode_command, encode_command
from residency.archives.dimse.wire import ABORT, ASSOCIATE_AC, ASSOCIATE_RJ, ASSOCIATE_RQ, LARGEST_PDU, Wire
from residency.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from residency.errors import AnswerError, ConfigError, CredentialsError, RejectedError, UnreachableError
from residency.settings import ArchiveSettings

# What it logs holds identifiers of patients; what matters comes as errors.
logging.getLogger("pynetdicom").propagate = False

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
MOST_CONTEXTS = 128
"""Presentation contexts of one association: their numbers are the odd ones of a byte (PS3.8 9.3.2.2)."""

_LARGEST_COMMAND = 2**16
_CALLER_UNKNOWN, _CALLED_UNKNOWN = 3, 7


@dataclass(frozen=True)
class Context:
    """A presentation context that is proposed: a SOP class, the transfer syntaxes, and whether we are to receive."""

    abstract: str
    syntaxes: tuple[str, ...] = (IMPLICIT,)
    receives: bool = False


@dataclass(frozen=True)
class Peer:
    """Whom to speak to, and as whom."""

    host: str
    port: int
    called: str
    calling: str
    timeout_s: float
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"the archive {self.called} at {self.host}:{self.port}"


def peer_of(settings: ArchiveSettings) -> Peer:
    """The peer that settings describe. Raises ConfigError for a URL or a certificate that cannot be used."""
    parts = urlsplit(settings.url)
    called = unquote(parts.path.strip("/"))
    try:
        port = parts.port
    except ValueError:
        port = None
    sound = parts.hostname and port and 0 < len(called) <= 16 and called.isascii() and called.isprintable()
    if not sound or "\\" in called or parts.query or parts.fragment or parts.username:
        raise ConfigError("the URL of a DIMSE archive is dimse://HOST:PORT/AE_TITLE (dimses:// for TLS)")
    context = tls.towards(settings) if parts.scheme == "dimses" else None
    return Peer(parts.hostname or "", port or 0, called, settings.ae_title, settings.timeout_s, context)


class Association:
    """An association that is established; use it as a context manager: it is released, or aborted after an error.

    accepted  id of each accepted context -> SOP class, transfer syntax
    """

    def __init__(self, peer: Peer, contexts: Sequence[Context]) -> None:
        """Establish it. Raises UnreachableError, CredentialsError, RejectedError, AnswerError."""
        assert 0 < len(contexts) <= MOST_CONTEXTS
        self.peer = peer
        self._message = 0
        self._wire = Wire(_connect(peer), peer.timeout_s, str(peer))
        proposed = {2 * n + 1: context for n, context in enumerate(contexts)}
        try:
            self._wire.send(ASSOCIATE_RQ, _request(peer.calling, peer.called, tuple(contexts)))
            self.accepted = self._negotiated(proposed)
        except BaseException:
            self._wire.abort()
            raise

    def __enter__(self) -> Association:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._wire.release()
        else:
            self._wire.abort()

    def release(self) -> None:
        """End it properly."""
        self._wire.release()

    def abort(self) -> None:
        """End it at once."""
        self._wire.abort()

    def context(self, abstract: str, syntaxes: Iterable[str] = (IMPLICIT,)) -> int | None:
        """An accepted context of this SOP class in one of the transfer syntaxes, the first before the later ones."""
        for syntax in syntaxes:
            for number, accepted in self.accepted.items():
                if accepted == (abstract, syntax):
                    return number
        return None

    def require(self, abstract: str, name: str) -> int:
        """The context of a service. Raises RejectedError where the archive does not offer it."""
        number = self.context(abstract)
        if number is None:
            raise RejectedError(f"{self.peer} does not offer {name}; see its conformance statement")
        return number

    def next_message(self) -> int:
        """A message id that is not in use."""
        self._message = self._message % 0xFFFF + 1
        return self._message

    def send(self, context_id: int, command: Command, data: bytes | memoryview | None = None) -> None:
        """A message: its command set, and its data set where it has one."""
        self._wire.send_data(context_id, encode_command(command), command=True)
        if data is not None:
            self._wire.send_data(context_id, data, command=False)

    def command(self) -> tuple[int, Command]:
        """The next message's context and command set. Raises UnreachableError where the peer ends the association."""
        received = read_command(self._wire, str(self.peer))
        if received is None:
            raise UnreachableError(f"{self.peer} ended the association in the middle of its work", retry=True)
        if received[0] not in self.accepted:
            raise AnswerError(f"{self.peer} answers in a presentation context that was not agreed")
        return received

    def answers(self, within_s: float) -> bool:
        """Whether something can be read, now or within that time."""
        return self._wire.readable(within_s)

    def answer(self, message_id: int) -> Command:
        """The command set of the next response to a message of ours."""
        _, command = self.command()
        if command.responded_to != message_id or command.status is None:
            raise AnswerError(f"{self.peer} answers something that was not asked")
        return command

    def data_set(self, context_id: int, limit: int, into: IO[bytes]) -> int:
        """Take a data set of at most `limit` bytes; how many it had."""
        return read_data_set(self._wire, context_id, limit, into, str(self.peer))

    def small_data_set(self, context_id: int, limit: int = 2**20) -> bytes:
        """Take an identifier."""
        with tempfile.SpooledTemporaryFile() as into:
            self.data_set(context_id, limit, into)
            into.seek(0)
            return into.read()

    def _negotiated(self, proposed: dict[int, Context]) -> dict[int, tuple[str, str]]:
        kind, body = self._wire.negotiation()
        whole = bytes((kind, 0)) + len(body).to_bytes(4, "big") + body
        if kind == ASSOCIATE_RJ:
            raise _rejection(self.peer, whole)
        if kind == ABORT:
            raise UnreachableError(f"{self.peer} ended the association before it began", retry=True)
        if kind != ASSOCIATE_AC:
            raise AnswerError(f"{self.peer} answers the proposal of an association with a PDU of type {kind}")
        try:
            answered = A_ASSOCIATE_AC()
            answered.decode(whole)
            granted = answered.to_primitive()
            largest = int(granted.maximum_length_received or 0)
            contexts = [
                (int(c.context_id or 0), str(c.transfer_syntax[0]))
                for c in granted.presentation_context_definition_results_list
                if c.result == 0 and c.transfer_syntax
            ]
            roles = {
                str(item.sop_class_uid): bool(item.scp_role)
                for item in granted.user_information
                if isinstance(item, SCP_SCU_RoleSelectionNegotiation)
            }
        except Exception:  # whatever hostile bytes make the codec raise
            raise AnswerError(f"{self.peer} answers the proposal of an association with what is no DICOM") from None
        self._wire.limit(largest)
        found = {}
        for number, syntax in contexts:
            context = proposed.get(number)
            if context is None or syntax not in context.syntaxes:
                raise AnswerError(f"{self.peer} accepts a presentation context that was not proposed")
            if not context.receives or roles.get(context.abstract, True):
                found[number] = (context.abstract, syntax)
        return found


def read_command(wire: Wire, peer: str) -> tuple[int, Command] | None:
    """Context and command set of the next message; None where the peer ends the association."""
    parts = bytearray()
    context_id = None
    while True:
        fragment = wire.fragment()
        if fragment is None:
            return None
        if not fragment.command or context_id not in (None, fragment.context_id):
            raise AnswerError(f"{peer} sends a data set where a command set belongs")
        context_id = fragment.context_id
        parts += fragment.data
        if len(parts) > _LARGEST_COMMAND:
            raise AnswerError(f"{peer} sends a command set of more than {_LARGEST_COMMAND} bytes")
        if fragment.last:
            return context_id, decode_command(bytes(parts), peer)


def read_data_set(wire: Wire, context_id: int, limit: int, into: IO[bytes], peer: str) -> int:
    """Write the data set that follows a command set; how many bytes it had. Raises AnswerError beyond the limit."""
    size = 0
    while True:
        fragment = wire.fragment()
        if fragment is None or fragment.command or fragment.context_id != context_id:
            raise AnswerError(f"{peer} does not send the data set that it announced")
        size += len(fragment.data)
        if size > limit:
            raise AnswerError(f"{peer} sends a data set of more than the {limit} bytes that are taken")
        into.write(fragment.data)
        if fragment.last:
            return size


def _connect(peer: Peer) -> socket.socket:
    try:
        connected = socket.create_connection((peer.host, peer.port), timeout=peer.timeout_s)
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else (error.strerror or "no connection")
        raise UnreachableError(
            f"{peer} cannot be reached ({reason}): see whether it runs, and check host and port", retry=True
        ) from None
    if peer.tls is None:
        return connected
    try:
        return peer.tls.wrap_socket(connected, server_hostname=peer.host)
    except ssl.SSLCertVerificationError as error:
        connected.close()
        raise UnreachableError(
            f"the certificate of {peer} does not hold ({error.verify_message}): set ca_file to the authority that "
            "signed it, and use the host's name that it states"
        ) from None
    except OSError as error:
        connected.close()
        reason = getattr(error, "reason", None) or error.strerror or "no answer"
        raise CredentialsError(
            f"{peer} does not agree on TLS ({reason}): see client_certificate, or use dimse:// where that is right"
        ) from None


@lru_cache(maxsize=64)
def _request(calling: str, called: str, proposed: tuple[Context, ...]) -> bytes:
    """The body of an A-ASSOCIATE-RQ. Kept, because encoding a hundred contexts takes longer than being answered."""
    request = A_ASSOCIATE()
    request.application_context_name = UID(APPLICATION_CONTEXT)
    request.calling_ae_title = calling
    request.called_ae_title = called
    contexts = []
    for number, context in enumerate(proposed):
        made = PresentationContext()
        made.context_id = 2 * number + 1
        made.abstract_syntax = UID(context.abstract)
        made.transfer_syntax = list(context.syntaxes)
        contexts.append(made)
    request.presentation_context_definition_list = contexts
    spoken = user_information()
    for abstract in sorted({c.abstract for c in proposed if c.receives}):
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid, role.scu_role, role.scp_role = UID(abstract), False, True
        spoken.append(role)
    request.user_information = spoken
    return A_ASSOCIATE_RQ(request).encode()[6:]


def user_information() -> list[Any]:
    """What each side says of itself (PS3.7 D.3.3)."""
    largest = MaximumLengthNotification()
    largest.maximum_length_received = LARGEST_PDU
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return [largest, implementation, version]


def _rejection(peer: Peer, pdu: bytes) -> CredentialsError | RejectedError | UnreachableError | AnswerError:
    try:
        rejected = A_ASSOCIATE_RJ()
        rejected.decode(pdu)
        source, reason = cast("int", rejected.source), cast("int", rejected.reason_diagnostic)
        said = f"{rejected.result_str.lower()}: {rejected.reason_str}"
    except Exception:  # as in _negotiated
        return AnswerError(f"{peer} rejects the association in a way that DICOM does not know")
    if source == 1 and reason in (_CALLER_UNKNOWN, _CALLED_UNKNOWN):
        return CredentialsError(
            f"{peer} does not know {'our' if reason == _CALLER_UNKNOWN else 'its'} AE title "
            f"({peer.calling if reason == _CALLER_UNKNOWN else peer.called}): have it entered there, or correct the "
            "settings"
        )
    if source == 3:
        return UnreachableError(f"{peer} takes no association now ({said}): set fewer associations", retry=True)
    return RejectedError(f"{peer} rejects the association ({said})")
