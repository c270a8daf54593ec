"""STOW-RS (PS3.18 10.5): several instances in one request, and what the answer says about each."""

from __future__ import annotations

from collections.abc import Sequence

from residency.archive import Instance
from residency.archives.dicomweb.http import Answer, Web
from residency.archives.dicomweb.model import Json, items_of, objects, text_of
from residency.archives.dicomweb.multipart import Body
from residency.archives.dicomweb.query import JSON
from residency.archives.part10 import named
from residency.archives.patience import patiently
from residency.errors import AnswerError, ArchiveError, CredentialsError, RejectedError, UnconfirmedError

_FAILED, _REFERENCED, _OTHER_FAILURES = "00081198", "00081199", "0008119A"
_UID, _REASON = "00081155", "00081197"
_DUPLICATE = 0x0111
_NOT_AUTHORISED = 0x0124
_ANSWERS = (400, 409)
"""Statuses whose body says what became of each instance: some were stored, or none."""

_WORDS = {
    0x0110: "it failed to process it",
    0x0122: "it does not take this SOP class",
    0xA700: "it is out of room",
    0xA900: "the data set does not fit its SOP class",
    0xC000: "it cannot understand it",
    0xC122: "it does not take this transfer syntax",
}
"""Failure Reason (PS3.18 10.5.3, Table I.2-2; PS3.4 B.2.3; PS3.7 Annex C)."""


def send(web: Web, batch: Sequence[Instance], retries: int) -> None:
    """Store a batch. Raises RejectedError for the first instance that is refused, UnconfirmedError without an answer.

    An archive that says success without naming an instance is believed here: reading back finds out.
    """

    def attempt() -> None:
        body = Body([instance.data for instance in batch], "application/dicom")
        headers = {"Content-Type": body.content_type, "Accept": JSON}
        with web.post("/studies", body.pieces(), body.length, headers, _ANSWERS) as answer:
            _judge(web, answer, {instance.uid for instance in batch})

    # An answer that is lost is not tried again here: whoever stores asks first what is there.
    patiently(attempt, retries, but=(UnconfirmedError,))


def _judge(web: Web, answer: Answer, sent: set[str]) -> None:
    stored, failed, others = _read(answer)
    for uid, reason in failed.items():
        if uid in sent and reason != _DUPLICATE:
            raise _refused(web, uid, reason)
    if answer.status in (*_ANSWERS, 202) or others:
        unnamed = sorted(sent - stored - failed.keys())
        if unnamed or (answer.status in _ANSWERS and not failed):
            first = unnamed[0] if unnamed else "the whole request"
            raise RejectedError(
                f"{web.url} answers {answer.status} and stored neither {first} nor says why: see its log"
            )


def _read(answer: Answer) -> tuple[set[str], dict[str, int], bool]:
    """UIDs that it names as stored; failure reasons by UID; whether it names failures without a UID."""
    try:
        rows = list(objects(answer.chunks))
    except AnswerError as error:
        # Cut short, it may have named what failed; of 202 some were stored, and only the body says which.
        if answer.status == 202 or (error.retry and answer.status not in _ANSWERS):
            raise
        rows = []  # an archive that answers in XML, or in words, all the same: its status is all that is left
    row: Json = rows[0] if rows else {}
    # Orthanc always sends the Failed SOP Sequence, without an item where nothing failed.
    failed = {text_of(item, _UID): _reason(item) for item in items_of(row, _FAILED)}
    stored = {text_of(item, _UID) for item in items_of(row, _REFERENCED)}
    return stored, failed, bool(items_of(row, _OTHER_FAILURES))


def _reason(item: Json) -> int:
    said = text_of(item, _REASON)
    return int(said) if said.isascii() and said.isdigit() and len(said) <= 5 else 0


def _refused(web: Web, uid: str, reason: int) -> ArchiveError:
    words = _WORDS.get(reason) or _WORDS.get(reason & 0xFF00) or _WORDS.get(reason & 0xF000)
    said = f"{web.url} refuses {named(uid)}: {words or 'without a reason that is known'} (code {reason:04X})"
    if reason == _NOT_AUTHORISED:
        return CredentialsError(f"{web.url} refuses {named(uid)}: these credentials may not store (code {reason:04X})")
    return RejectedError(f"{said}. See its log, or what it is set to take", retry=reason & 0xFF00 == 0xA700)
