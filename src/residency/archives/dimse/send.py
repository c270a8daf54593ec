"""C-STORE as requestor (DICOM PS3.4 annex B): data sets go out as they stand in their files, over several associations.

Each SOP class is proposed with the transfer syntax of what is to be sent; what is not compressed also in the other
uncompressed ones, and is written anew only where an equal data set comes of it. Compressed pixels are never changed.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO

from pydicom import dcmread
from pydicom.uid import UID

from residency.archive import Instance
from residency.archives.dimse.association import EXPLICIT, IMPLICIT, MOST_CONTEXTS, Association, Context, Peer
from residency.archives.dimse.commands import (
    C_STORE,
    CLASS_NOT_SUPPORTED,
    COERCED,
    DISCARDED,
    SUCCESS,
    WITH_DATA_SET,
    Command,
    in_words,
    refusal,
)
from residency.archives.part10 import as_message, named, same_data_set
from residency.errors import AlteredError, AnswerError, ArchiveError, RejectedError, UnconfirmedError, UnreachableError

NATIVE = (EXPLICIT, IMPLICIT, "1.2.840.10008.1.2.2")
_DUPLICATE = 0x0111
_WARNINGS = (0x0001, 0x0107, 0x0116, COERCED, DISCARDED, 0xB007)
_PER_ASSOCIATION, _BYTES_PER_ASSOCIATION = 8, 2 * 2**20
"""What makes another association worth its handshake."""
_NAMED = 20


@dataclass(frozen=True)
class Message:
    """One instance as a C-STORE carries it."""

    instance: Instance = field(repr=False)
    sop_class: str
    syntax: str
    data_set: memoryview = field(repr=False)

    @property
    def uid(self) -> str:
        """Its SOP Instance UID."""
        return self.instance.uid


class Sending:
    """Sends batches. `release` what it holds when no more come."""

    def __init__(self, peer: Peer, connect: Callable[[Sequence[Context]], Association], *, compared: bool) -> None:
        """connect opens an association; compared says that what was stored is read back, so that warnings need not
        be judged here.
        """
        self._peer = peer
        self._connect = connect
        self._compared = compared
        self._open: dict[tuple[Context, ...], list[Association]] = {}
        self._lock = threading.Lock()

    def send(self, batch: Sequence[Instance], associations: int) -> None:
        """One attempt for each instance, over so many associations at most.

        Raises RejectedError, CredentialsError or AlteredError naming every instance that was refused or changed,
        UnreachableError before anything was sent, UnconfirmedError naming those whose answer is lost.
        """
        for messages in _by_contexts(batch):
            contexts = tuple(_contexts(messages))
            size = sum(len(m.data_set) for m in messages)
            useful = max(-(-len(messages) // _PER_ASSOCIATION), -(-size // _BYTES_PER_ASSOCIATION))
            task = _Task(iter(messages))
            count = min(associations, useful, len(messages))
            if count == 1:
                self._work(task, contexts)
            else:
                with ThreadPoolExecutor(count, thread_name_prefix="residency-store") as pool:
                    for done in [pool.submit(self._work, task, contexts) for _ in range(count)]:
                        done.result()
                if task.returned and not task.lost:  # an archive may take fewer associations than it is offered
                    self._work(task, contexts)
            task.judge(messages)

    def release(self) -> None:
        """End the associations that are open."""
        with self._lock:
            associations = [one for many in self._open.values() for one in many]
            self._open.clear()
        for association in associations:
            association.release()

    def _work(self, task: _Task, contexts: tuple[Context, ...]) -> None:
        """Send what nobody else has taken yet, over one association."""
        message = task.take()
        if message is None:
            return
        try:
            association = self._association(contexts)
        except ArchiveError as error:
            task.unsent(message, error)
            return
        while message is not None:
            try:
                problem = self._store(association, message)
            except (UnreachableError, AnswerError) as error:
                task.lost[message.uid] = error
                association.abort()
                return
            except BaseException:
                association.abort()
                raise
            if problem is not None:
                task.problems[message.uid] = problem
            message = task.take()
        with self._lock:
            self._open.setdefault(contexts, []).append(association)

    def _association(self, contexts: tuple[Context, ...]) -> Association:
        while True:
            with self._lock:
                waiting = self._open.get(contexts)
                association = waiting.pop() if waiting else None
            if association is None:
                return self._connect(contexts)
            if not association.answers(within_s=0):  # otherwise the archive has ended it meanwhile
                return association
            association.abort()

    def _store(self, association: Association, message: Message) -> ArchiveError | None:
        """What is wrong with the instance, if anything. Raises UnreachableError, AnswerError: then it is not known."""
        context, data_set = association.context(message.sop_class, (message.syntax,)), message.data_set
        if context is None and message.syntax in NATIVE:
            context = association.context(message.sop_class, NATIVE)
            if context is not None:
                written = _written_in(message.instance.data, association.accepted[context][1])
                if written is None:
                    context = None
                else:
                    data_set = written
        if context is None:
            return self._not_taken(association, message)
        number = association.next_message()
        request = Command(
            field=C_STORE,
            message_id=number,
            affected_class=message.sop_class,
            affected_instance=message.uid,
            priority=0,
            data_set=WITH_DATA_SET,
        )
        association.send(context, request, data_set)
        return self._judged(association.answer(number).status or SUCCESS)

    def _judged(self, status: int) -> ArchiveError | None:
        if status in (SUCCESS, _DUPLICATE):
            return None
        if status in _WARNINGS:
            if self._compared or status not in (COERCED, DISCARDED):
                return None
            what = "coerced" if status == COERCED else "discarded"
            return AlteredError(f"{self._peer} says that it {what} elements (status {status:04X})")
        return refusal(status, f"{self._peer} refuses to store")

    def _not_taken(self, association: Association, message: Message) -> RejectedError:
        if any(abstract == message.sop_class for abstract, _ in association.accepted.values()):
            return RejectedError(
                f"{self._peer} does not take transfer syntax {message.syntax}, and we change no pixels"
            )
        return RejectedError(
            f"{self._peer} does not take SOP class {message.sop_class} in transfer syntax {message.syntax} "
            f"({in_words(CLASS_NOT_SUPPORTED)}): have it enabled there"
        )


class _Task:
    """What several associations do together."""

    def __init__(self, messages: Iterator[Message]) -> None:
        self._messages = messages
        self._lock = threading.Lock()
        self.returned: list[Message] = []
        self._failed: ArchiveError | None = None
        self.problems: dict[str, ArchiveError] = {}
        self.lost: dict[str, ArchiveError] = {}

    def take(self) -> Message | None:
        """The next message that nobody has."""
        with self._lock:
            return self.returned.pop() if self.returned else next(self._messages, None)

    def unsent(self, message: Message, error: ArchiveError) -> None:
        """Give a message back that could not be sent, for want of an association."""
        with self._lock:
            self.returned.append(message)
            self._failed = error

    def judge(self, messages: Sequence[Message]) -> None:
        """Raise for what did not go well."""
        problems = [(m.uid, self.problems[m.uid]) for m in messages if m.uid in self.problems]
        if problems:
            raise _together(problems)
        if self.lost:
            raise UnconfirmedError(
                f"{next(iter(self.lost.values()))}. Not known whether stored: {_list(list(self.lost))}", retry=True
            )
        left = []
        while (message := self.take()) is not None:
            left.append(message.uid)
        if left:
            assert self._failed is not None
            raise self._failed


def _list(uids: Sequence[str]) -> str:
    return ", ".join(uids[:_NAMED]) + (f" and {len(uids) - _NAMED} more" if len(uids) > _NAMED else "")


def _together(problems: Sequence[tuple[str, ArchiveError]]) -> ArchiveError:
    """One error for all of them: the first one's, with every instance named under what was said of it."""
    said: dict[str, list[str]] = {}
    for uid, problem in problems:
        said.setdefault(str(problem), []).append(named(uid))
    first = problems[0][1]
    text = "; ".join(f"{reason}: {_list(uids)}" for reason, uids in list(said.items())[:_NAMED])
    return type(first)(text, retry=all(problem.retry for _, problem in problems))


def _by_contexts(batch: Sequence[Instance]) -> Iterator[list[Message]]:
    """Messages in runs that one association has contexts for."""
    run: list[Message] = []
    pairs: set[tuple[str, str]] = set()
    for instance in batch:
        message = Message(instance, *as_message(instance.data, named(instance.uid)))
        pairs.add((message.sop_class, message.syntax))
        if 2 * len(pairs) > MOST_CONTEXTS:
            yield run
            run, pairs = [], {(message.sop_class, message.syntax)}
        run.append(message)
    if run:
        yield run


def _contexts(messages: Sequence[Message]) -> Iterator[Context]:
    for sop_class, syntax in sorted({(m.sop_class, m.syntax) for m in messages}):
        yield Context(sop_class, (syntax,))
        if syntax in NATIVE:
            yield Context(sop_class, tuple(other for other in NATIVE[:2] if other != syntax))


def _written_in(data: bytes, syntax: str) -> memoryview | None:
    """The data set in another uncompressed transfer syntax; None where it would not be equal afterwards."""
    with warnings.catch_warnings(), suppress(Exception):  # whatever pydicom finds hard to write is not written
        warnings.simplefilter("ignore")
        dataset = dcmread(BytesIO(data))
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        stream = BytesIO()
        dataset.save_as(stream, implicit_vr=syntax == IMPLICIT, little_endian=syntax != NATIVE[2])
        written = stream.getvalue()
        if same_data_set(data, written):
            return as_message(written, "the copy")[2]
    return None
