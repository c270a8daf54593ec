"""The storage SCP that C-MOVE needs (DICOM PS3.4 C.4.2, annex B): it takes what a retrieval of ours waits for.

It listens on the address that the settings name, while a retrieval runs, and refuses everything else: other AE titles,
SOP classes and instances that no retrieval waits for, more connections than there can be reason for.
"""

from __future__ import annotations

import math
import queue
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext

from residency.archives import tls
from residency.archives.dimse.association import (
    APPLICATION_CONTEXT,
    MOST_CONTEXTS,
    Association,
    Peer,
    read_command,
    read_data_set,
    user_information,
)
from residency.archives.dimse.commands import (
    C_ECHO,
    C_MOVE,
    C_STORE,
    NOT_AUTHORISED,
    OUT_OF_RESOURCES,
    PENDING,
    RESPONSE,
    SUCCESS,
    WITH_DATA_SET,
    Command,
    encode_command,
)
from residency.archives.dimse.retrieve import SYNTAXES, Arrival, Outcome, Wanted, outcome, stored
from residency.archives.dimse.wire import ASSOCIATE_AC, ASSOCIATE_RJ, ASSOCIATE_RQ, Wire
from residency.archives.part10 import LARGEST_INSTANCE
from residency.errors import AnswerError, ArchiveError, ConfigError, UnreachableError
from residency.settings import ArchiveSettings

MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
"""Study Root Query/Retrieve Information Model - MOVE."""
_VERIFICATION = "1.2.840.10008.1.1"
_STORAGE = "1.2.840.10008.5.1.4.1.1."
"""How SOP classes of storage begin: all are taken where the archive does not say in its rows which one is to come."""
_MOST_CONNECTIONS = 16
_IN_WAITING = 2
"""Instances that have arrived and are not looked at yet; then the archive waits."""
_LARGEST_REFUSED = 2**28
"""Bytes of an instance that nobody waits for that are let pass, so that what else its sender has can still come."""
_BREATH_S = 0.1
"""After a connection that could not be taken, as where no more files may be open."""
_SENDER = "the sender of a C-MOVE"
_REJECTED, _BY_USER, _CALLED_UNKNOWN = 1, 1, 7


@dataclass
class _Waiting:
    """A retrieval that waits: for which instances, and what has come."""

    left: set[str]
    classes: frozenset[str]
    came: queue.Queue[Arrival | Outcome | ArchiveError] = field(default_factory=lambda: queue.Queue(_IN_WAITING))
    over: threading.Event = field(default_factory=threading.Event)
    senders: list[Wire] = field(default_factory=list)
    heard: float = field(default_factory=time.monotonic)

    def last_heard(self) -> float:
        """When something last came, on any connection."""
        return max([self.heard, *(wire.heard for wire in list(self.senders))])

    def put(self, what: Arrival | Outcome | ArchiveError, timeout_s: float = math.inf) -> bool:
        """Hand over, unless nobody listens any more. An end is handed over however long the queue is full."""
        end = time.monotonic() + timeout_s
        while not self.over.is_set() and time.monotonic() < end:
            self.heard = time.monotonic()
            with suppress(queue.Full):
                self.came.put(what, timeout=0.2)
                return True
        return False


class Receiver:
    """Our storage SCP. It listens from the first retrieval until it is closed."""

    def __init__(self, settings: ArchiveSettings, peer: Peer) -> None:
        """Listen. Raises ConfigError where the address or the certificate cannot be used."""
        self._peer = peer
        self._waiting: list[_Waiting] = []
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self._tls = tls.listening(settings) if peer.tls else None
        where = (settings.move_host, settings.move_port)
        try:
            self._listener = socket.create_server(where, backlog=_MOST_CONNECTIONS)
        except OSError as error:
            raise ConfigError(f"move_host {where[0]} and move_port {where[1]}: {error.strerror}") from None
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._listen, name="residency-move", daemon=True).start()

    def close(self) -> None:
        """Listen no more; what is under way ends with its retrieval."""
        self._closed.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def move(self, association: Association, wanted: Wanted) -> Iterator[Arrival | Outcome]:
        """Fetch by C-MOVE: what arrives, and at the end how it went."""
        context = association.require(MOVE, 'retrieval by C-MOVE (Study Root); set retrieve = "get" if it has C-GET')
        message = association.next_message()
        request = Command(
            field=C_MOVE,
            message_id=message,
            affected_class=MOVE,
            move_destination=self._peer.calling,
            priority=0,
            data_set=WITH_DATA_SET,
        )
        with self._expecting(wanted) as waiting:
            association.send(context, request, wanted.identifier())
            most = 4 * len(wanted.classes) + 16
            threading.Thread(
                target=_watch, args=(association, message, most, waiting), name="residency-move", daemon=True
            ).start()
            while True:
                came = waiting.came.get()
                if isinstance(came, ArchiveError):
                    raise came
                yield came
                if isinstance(came, Outcome):
                    return

    @contextmanager
    def _expecting(self, wanted: Wanted) -> Iterator[_Waiting]:
        waiting = _Waiting(set(wanted.classes), frozenset(wanted.classes.values()))
        with self._lock:
            self._waiting.append(waiting)
        try:
            yield waiting
        finally:
            waiting.over.set()
            with self._lock:
                self._waiting.remove(waiting)
            with suppress(queue.Empty):
                while True:
                    left = waiting.came.get_nowait()
                    if isinstance(left, Arrival):
                        left.close()

    # Connections

    def _listen(self) -> None:
        while True:
            try:
                connected, _ = self._listener.accept()
            except OSError:
                if self._closed.wait(_BREATH_S):
                    return
                continue
            if not self._places.acquire(blocking=False):
                connected.close()
                continue
            threading.Thread(target=self._serve, args=(connected,), name="residency-move", daemon=True).start()

    def _serve(self, connected: socket.socket) -> None:
        try:
            connected.settimeout(self._peer.timeout_s)
            if self._tls:
                connected = self._tls.wrap_socket(connected, server_side=True)
            wire = Wire(connected, self._peer.timeout_s, _SENDER)
        except OSError:
            connected.close()
            self._places.release()
            return
        try:
            contexts = self._accept(wire)
            while contexts and self._one(wire, contexts):
                pass
            wire.close()
        except ArchiveError:
            wire.abort()
        finally:
            self._places.release()

    def _accept(self, wire: Wire) -> dict[int, tuple[str, str]]:
        """Negotiate: the accepted contexts, none where the association is rejected."""
        kind, body = wire.negotiation()
        try:
            request = A_ASSOCIATE_RQ()
            request.decode(bytes((kind, 0)) + len(body).to_bytes(4, "big") + body)
            asked = request.to_primitive()
            proposed = list(asked.presentation_context_definition_list)
            called, largest = str(asked.called_ae_title).strip(), int(asked.maximum_length_received or 0)
            contexts = [(int(c.context_id or 0), str(c.abstract_syntax), list(c.transfer_syntax)) for c in proposed]
        except Exception:  # whatever hostile bytes make the codec raise
            raise AnswerError("a connection to our storage SCP does not speak DICOM") from None
        if kind != ASSOCIATE_RQ or len(contexts) > MOST_CONTEXTS or called != self._peer.calling:
            wire.send(ASSOCIATE_RJ, bytes((0, _REJECTED, _BY_USER, _CALLED_UNKNOWN)))
            return {}
        wire.limit(largest)
        with self._lock:
            classes = {c for waiting in self._waiting for c in waiting.classes} | {_VERIFICATION}
        accepted, results = {}, []
        for number, abstract, syntaxes in contexts:
            known = [syntax for syntax in SYNTAXES if syntax in syntaxes]
            taken = abstract in classes or ("" in classes and abstract.startswith(_STORAGE))
            result = PresentationContext()
            result.context_id = number
            result.result = 0 if taken and known else (4 if taken else 3)
            result.transfer_syntax = [UID(known[0])] if known else list(syntaxes[:1])
            results.append(result)
            if result.result == 0:
                accepted[number] = (abstract, known[0])
        answer = A_ASSOCIATE()
        answer.application_context_name = UID(APPLICATION_CONTEXT)
        answer.calling_ae_title, answer.called_ae_title = asked.calling_ae_title, asked.called_ae_title
        answer.presentation_context_definition_results_list = results
        answer.user_information = user_information()
        answer.result, answer.result_source = 0, 1
        wire.send(ASSOCIATE_AC, A_ASSOCIATE_AC(answer).encode()[6:])
        return accepted

    def _one(self, wire: Wire, contexts: dict[int, tuple[str, str]]) -> bool:
        """Serve one message; False where the association ended."""
        received = read_command(wire, _SENDER)
        if received is None:
            return False
        number, command = received
        if number not in contexts or command.field not in (C_STORE, C_ECHO):
            raise AnswerError(f"{_SENDER} sends something else than instances")
        if command.field == C_ECHO:
            echoed = Command(field=C_ECHO | RESPONSE, responded_to=command.message_id, status=SUCCESS)
            wire.send_data(number, encode_command(echoed), command=True)
            return True
        status = self._take(wire, number, contexts[number], command)
        wire.send_data(number, encode_command(stored(command, status)), command=True)
        return True

    def _take(self, wire: Wire, number: int, context: tuple[str, str], command: Command) -> int:
        """Receive one instance for the retrieval that waits for it; the status to answer."""
        uid = command.affected_instance
        with self._lock:
            waiting = next((w for w in self._waiting if uid in w.left), None)
            if waiting is not None:
                waiting.left.discard(uid)
                waiting.senders.append(wire)
        if waiting is None:
            with tempfile.TemporaryFile() as nowhere:
                read_data_set(wire, number, _LARGEST_REFUSED, nowhere, _SENDER)
            return NOT_AUTHORISED
        arrival = Arrival(uid, command.affected_class or context[0], context[1])
        try:
            read_data_set(wire, number, LARGEST_INSTANCE, arrival.into, _SENDER)
        except BaseException:
            arrival.close()
            with self._lock:
                waiting.left.add(uid)
            raise
        finally:
            waiting.senders.remove(wire)
        if waiting.put(arrival, self._peer.timeout_s):
            return SUCCESS
        arrival.close()
        return OUT_OF_RESOURCES


def _watch(association: Association, message: int, most: int, waiting: _Waiting) -> None:
    """Hand over how the C-MOVE ends. Its responses may be rare: as long as instances come, it goes on."""
    timeout_s = association.peer.timeout_s
    try:
        for _ in range(most):
            while not association.answers(within_s=0.5):
                if waiting.over.is_set():
                    return
                if time.monotonic() - waiting.last_heard() > timeout_s:
                    raise UnreachableError(f"{association.peer} sent nothing for {timeout_s:g} s", retry=True)
            waiting.heard = time.monotonic()
            number, command = association.command()
            if command.responded_to != message or command.status is None:
                raise AnswerError(f"{association.peer} answers something that was not asked")
            if command.status != PENDING:
                waiting.put(outcome(association, number, command))
                return
        raise AnswerError(f"{association.peer} goes on answering a retrieval without end")
    except ArchiveError as error:
        waiting.put(error)
