"""A DICOMweb archive that goes wrong: each way ends in an error of its own, and nothing half published is offered."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pydicom
import pytest

from residency.archive import Level, Query
from residency.archives.dicomweb import DicomWeb
from residency.archives.dicomweb.multipart import Body
from residency.errors import ResidencyError
from residency.models import fetch, find_models, publish
from residency.package import ModelPackage
from residency.settings import ArchiveSettings
from residency.testing.archive import data_set, instance
from residency.testing.misbehaving import Outcome, check_section, kind_of, shown, state_of
from residency.testing.misbehaving_web import Asked, Behaviour, Reply, WebArchive, row_of_entry, web_archive
from residency.trust import SigningKey, TrustStore


def _rewritten(change: Callable[[pydicom.Dataset], object]) -> Callable[[bytes], bytes]:
    def rewrite(data: bytes) -> bytes:
        image = pydicom.dcmread(io.BytesIO(data))
        change(image)
        written = io.BytesIO()
        image.save_as(written)
        return written.getvalue()

    return rewrite


def _move_block(image: pydicom.Dataset) -> None:
    for element in [e for e in image if e.tag.is_private]:
        moved = element.tag + (1 if element.tag.is_private_creator else 0x100)
        del image[element.tag]
        image.add_new(moved, element.VR, element.value)


def _cut_values(image: pydicom.Dataset) -> None:
    for element in image:
        if element.VR in ("OB", "UT") and len(element.value) > 16:
            element.value = element.value[:16]


def _at(kind: str, reply: Callable[[], Reply]) -> Behaviour:
    return Behaviour(before=lambda asked: reply() if asked.kind == kind else None)


def _changed(kind: str, change: Callable[[Reply], Reply]) -> Behaviour:
    return Behaviour(after=lambda asked, reply: change(reply) if asked.kind == kind and reply.status == 200 else reply)


def _failing(reason: int) -> Behaviour:
    """Each instance that was sent is in the Failed SOP Sequence, and is not kept."""

    def fail(asked: Asked, reply: Reply) -> Reply:
        if asked.kind != "store":
            return reply
        failed = reply.body.replace(b'"00081198": {"vr": "SQ"}, "00081199"', b'"00081198"')
        why = b'"00081155": {"vr": "UI"', b'"00081197": {"vr": "US", "Value": [%d]}, "00081155": {"vr": "UI"' % reason
        return Reply(409, failed.replace(*why))

    return Behaviour(keep=lambda _: None, after=fail)


class _Slow:
    """Answers after the client's patience has ended."""

    def __init__(self) -> None:
        self.done = threading.Event()

    def __call__(self) -> Reply:
        self.done.wait(0.5)
        return Reply(200, b"[]")


class _Once:
    """One wrong reply, then right ones."""

    def __init__(self, reply: Reply, kind: str) -> None:
        self.reply, self.kind, self.left = reply, kind, 1

    def __call__(self, asked: Asked) -> Reply | None:
        if asked.kind != self.kind or self.left == 0:
            return None
        self.left -= 1
        return self.reply


def _takes_it_and_says_nothing() -> Behaviour:
    """The answer to the first request that stores is lost behind a reset connection."""
    left = [1]

    def lose(asked: Asked, reply: Reply) -> Reply:
        if asked.kind == "store" and left:
            left.pop()
            return replace(reply, length=len(reply.body) + 9, body=b"", reset_after=0)
        return reply

    return Behaviour(after=lose)


@cache
def _bomb() -> Reply:
    """Some kilobytes that inflate to 64 MiB of blanks within one row."""
    return Reply(200, gzip.compress(b'[{"' + b" " * 2**26), headers={"Content-Encoding": "gzip"})


def _everything(service: WebArchive) -> Behaviour:
    """Filters are ignored: each question is answered with all rows of its level."""

    def find_all(asked: Asked) -> Reply | None:
        if asked.kind != "find":
            return None
        level = {"studies": Level.STUDY, "series": Level.SERIES, "instances": Level.INSTANCE}[asked.path.split("/")[-1]]
        return Reply(200, json.dumps([row_of_entry(e) for e in service.memory.find(level, Query())]).encode())

    return Behaviour(before=find_all)


def _others(service: WebArchive) -> Behaviour:
    """Another image than was asked for, well formed."""
    made = Body([instance(data_set("1.2.1.1.1")).data], "application/dicom")
    return _at("give", lambda: Reply(200, b"".join(made.pieces()), made.content_type))


@dataclass(frozen=True)
class Case:
    said: str
    behaviour: Callable[[WebArchive], Behaviour]
    error: str


STORING = [
    Case("says success and stores nothing", lambda _: Behaviour(keep=lambda _: None), "LostError"),
    Case(
        "drops private elements",
        lambda _: Behaviour(keep=_rewritten(lambda image: image.remove_private_tags())),
        "AlteredError",
    ),
    Case("moves the private block", lambda _: Behaviour(keep=_rewritten(_move_block)), "AlteredError"),
    Case("cuts values short", lambda _: Behaviour(keep=_rewritten(_cut_values)), "AlteredError"),
    Case(
        "writes its own name over the patient's",
        lambda _: Behaviour(keep=_rewritten(lambda image: setattr(image, "PatientName", "Someone^Else"))),
        "AlteredError",
    ),
    Case("does not take Raw Data (failure reason)", lambda _: _failing(0x0122), "RejectedError"),
    Case("is out of room (failure reason)", lambda _: _failing(0xA700), "RejectedError"),
    Case("does not take Raw Data (415)", lambda _: _at("store", lambda: Reply(415)), "RejectedError"),
    Case("takes no large requests (413)", lambda _: _at("store", lambda: Reply(413)), "RejectedError"),
    Case("fails inside (500)", lambda _: _at("store", lambda: Reply(500)), "RejectedError"),
    Case("does not know us (401)", lambda _: _at("find", lambda: Reply(401)), "CredentialsError"),
    Case("lets us read and not store (403)", lambda _: _at("store", lambda: Reply(403)), "CredentialsError"),
    Case("is busy for good (503)", lambda _: _at("store", lambda: Reply(503)), "UnreachableError"),
    Case(
        "is busy once, and says when to come back (503)",
        lambda _: Behaviour(before=_Once(Reply(503, headers={"Retry-After": "0"}), "store")),
        "",
    ),
    Case(
        "sends us to another host (307)",
        lambda _: _at("store", lambda: Reply(307, headers={"Location": "http://127.0.0.1:9/dicom-web/studies"})),
        "RejectedError",
    ),
    Case(
        "resets every connection that stores",
        lambda _: _at("store", lambda: Reply(200, b"{", length=900, reset_after=0)),
        "UnconfirmedError",
    ),
    Case(
        "closes every connection that stores before it answers",
        lambda _: _at("store", lambda: Reply(0)),
        "UnconfirmedError",
    ),
    Case("stores, and its answer is lost", lambda _: _takes_it_and_says_nothing(), ""),
    Case("answers what it stored in words", lambda _: _changed("store", lambda r: replace(r, body=b"<ok/>")), ""),
    Case("answers too slowly", lambda _: _at("find", _Slow()), "UnreachableError"),
    Case(
        "answers a byte at a time, without end",
        lambda _: _at("find", lambda: Reply(200, drip="body")),
        "UnreachableError",
    ),
    Case("ignores every filter", _everything, ""),
    Case("answers questions in another language", lambda _: _at("find", lambda: Reply(200, b"<html>")), "AnswerError"),
    Case("answers questions in broken JSON", lambda _: _at("find", lambda: Reply(200, b'[{"0020')), "AnswerError"),
    Case("answers with a bomb of gzip", lambda _: _at("find", _bomb), "AnswerError"),
    Case("answers with rows without UIDs", lambda _: _at("find", lambda: Reply(200, b"[{}]")), "AnswerError"),
]

FETCHING = [
    Case(
        "cuts the last boundary off",
        lambda _: _changed("give", lambda r: replace(r, body=r.body[:-40])),
        "AnswerError",
    ),
    Case(
        "sends less than it announces",
        lambda _: _changed("give", lambda r: replace(r, body=r.body[:-40], length=len(r.body))),
        "AnswerError",
    ),
    Case(
        "announces a terabyte",
        lambda _: _changed("give", lambda r: replace(r, length=10**12)),
        "AnswerError",
    ),
    Case(
        "resets the connection mid-way",
        lambda _: _changed("give", lambda r: replace(r, length=len(r.body), reset_after=len(r.body) // 2)),
        "UnreachableError",
    ),
    Case(
        "names no boundary",
        lambda _: _changed("give", lambda r: replace(r, content_type="multipart/related")),
        "AnswerError",
    ),
    Case(
        "sends header lines without end",
        lambda _: _changed("give", lambda r: replace(r, body=r.body[:36] + b"X: y\r\n" * 100 + r.body[36:])),
        "AnswerError",
    ),
    Case(
        "cuts a data set within its part",
        lambda _: _changed("give", lambda r: replace(r, body=_without_end_of_first_part(r.body))),
        "AnswerError",
    ),
    Case("gives an instance of another series", _others, "AnswerError"),
    Case("does not give what it lists", lambda _: _at("give", lambda: Reply(404)), "IncompleteError"),
    Case(
        "gives a payload with one byte changed",
        lambda _: _changed("give", lambda r: replace(r, body=r.body.replace(b"input", b"inpuT"))),
        "DigestError",
    ),
]


def _without_end_of_first_part(body: bytes) -> bytes:
    mark = body[: body.index(b"\r\n")]
    end = body.index(b"\r\n" + mark)
    return body[: end - 3] + body[end:]


def _door(service: WebArchive) -> DicomWeb:
    return DicomWeb(ArchiveSettings(url=service.url, timeout_s=0.25, retries=1))


def _caught(action: Callable[[], object]) -> ResidencyError | None:
    try:
        action()
    except ResidencyError as error:
        return error
    return None


def _stored(case: Case, package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime) -> Outcome:
    """Publishing into the archive while it goes wrong; what lies there is looked at when it does right again."""
    with web_archive() as service:
        service.memory.store([instance(data_set("1.2.1.1.1"))])
        door = _door(service)
        service.behaviour = case.behaviour(service)
        error = _caught(lambda: publish(door, package, key))
        service.behaviour = Behaviour()
        state = state_of(door, trust, now)
        door.close()
    assert (kind_of(error) if error else "") == case.error, f"{case.said}: {error!r}"
    assert ("whole" in state) == (error is None), f"{case.said}: {state}"
    return Outcome(case.said, shown(error, service.url), state)


def _fetched(case: Case, package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime) -> Outcome:
    """Fetching a whole model while the archive goes wrong, and again when it does right."""
    with web_archive() as service:
        door = _door(service)
        publish(door, package, key)
        (model,) = find_models(door, trust, now=now).models
        service.behaviour = case.behaviour(service)
        error = _caught(lambda: fetch(door, model, trust))
        service.behaviour = Behaviour()
        again = fetch(door, model, trust)
        door.close()
    assert (kind_of(error) if error else "") == case.error, f"{case.said}: {error!r}"
    assert again.digest == package.digest
    return Outcome(case.said, shown(error, service.url), "nothing is used; fetched again it is whole")


@pytest.mark.slow
def test_every_misbehaviour_ends_in_its_own_error(
    package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime, repository: Path
) -> None:
    """Each row of the page, for publishing and for fetching; and the page is the committed one."""
    _bomb()
    stored = [_stored(case, package, key, trust, now) for case in STORING]
    fetched = [_fetched(case, package, key, trust, now) for case in FETCHING]
    check_section(repository, "DICOMweb, while a model is published", stored)
    check_section(repository, "DICOMweb, while a model is fetched", fetched)
