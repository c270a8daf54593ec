"""Storing over DICOMweb: in batches, each instance accounted for, sent again where an answer is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from residency.archive import Instance, Level, Query
from residency.archives import storing
from residency.archives.dicomweb import DicomWeb
from residency.errors import ArchiveError, CredentialsError, RejectedError, UnconfirmedError, UnreachableError
from residency.settings import ArchiveSettings
from residency.testing.archive import data_set, instance
from residency.testing.misbehaving_web import Asked, Behaviour, Reply, WebArchive, web_archive


@pytest.fixture
def service() -> Iterator[WebArchive]:
    with web_archive() as service:
        yield service


def _door(service: WebArchive, *, read_back: bool = True) -> DicomWeb:
    return DicomWeb(ArchiveSettings(url=service.url, retries=2, read_back=read_back))


def _images(count: int) -> list[Instance]:
    return [instance(data_set(f"1.2.1.1.{n}")) for n in range(count)]


def _there(service: WebArchive) -> set[str]:
    return {entry.sop_uid for entry in service.memory.find(Level.INSTANCE, Query())}


def _stores(service: WebArchive) -> int:
    return sum(asked.kind == "store" for asked in service.asked)


def _failing(uid: str, reason: int, status: int) -> Behaviour:
    """One instance is not kept and is said to have failed."""

    def fail(asked: Asked, reply: Reply) -> Reply:
        if asked.kind != "store":
            return reply
        answer = json.loads(reply.body)
        failed = {"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [reason]}}
        answer["00081198"]["Value"] = [failed]
        answer["00081199"]["Value"] = [i for i in answer["00081199"]["Value"] if i["00081155"]["Value"] != [uid]]
        return Reply(status, json.dumps(answer).encode())

    return Behaviour(keep=lambda data: None if uid.encode() + b"\0" in data else data, after=fail)


def test_many_instances_travel_together_and_no_request_grows_without_bound(
    service: WebArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = _door(service)
    door.store(iter(_images(150)))
    assert len(_there(service)) == 150
    assert _stores(service) == 3
    service.asked.clear()
    monkeypatch.setattr(storing, "MOST_BYTES_AT_ONCE", 1500)
    door.store(instance(data_set(f"1.2.2.1.{n}", series="1.2.2.1")) for n in range(9))
    assert _stores(service) == 3
    door.close()


def test_what_is_there_is_not_sent_again(service: WebArchive) -> None:
    door = _door(service)
    door.store(_images(3))
    door.store(_images(5))
    door.store(_images(5))
    assert _stores(service) == 2
    door.close()


@pytest.mark.parametrize(
    ("reason", "status", "kind", "said"),
    [
        (0x0122, 202, RejectedError, "does not take this SOP class"),
        (0xA901, 202, RejectedError, "does not fit its SOP class"),
        (0xC123, 409, RejectedError, "cannot understand"),
        (0x4321, 200, RejectedError, "without a reason that is known"),
        (0x0124, 409, CredentialsError, "may not store"),
    ],
)
def test_an_instance_that_is_refused_is_named_with_the_reason(
    service: WebArchive, reason: int, status: int, kind: type[ArchiveError], said: str
) -> None:
    service.behaviour = _failing("1.2.1.1.1", reason, status)
    door = _door(service)
    with pytest.raises(kind, match=said) as error:
        door.store(_images(3))
    assert "1.2.1.1.1" in str(error.value)
    assert f"{reason:04X}" in str(error.value)
    assert _there(service) == {"1.2.1.1.0", "1.2.1.1.2"}
    door.close()


def test_a_duplicate_is_no_failure(service: WebArchive) -> None:
    """Between our question and our request somebody else stored the same."""
    (image,) = _images(1)
    service.memory.store([image])
    hidden = [True]

    def hide(asked: Asked) -> Reply | None:
        return Reply(200, b"[]") if asked.kind == "find" and hidden and hidden.pop() else None

    service.behaviour = replace(_failing(image.uid, 0x0111, 409), before=hide)
    door = _door(service)
    door.store([image])
    assert _stores(service) == 1
    door.close()


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"00081199": {"vr": "SQ"}}', b'{"00081198": 5}', b"[[["])
def test_a_refusal_that_says_nothing_is_a_refusal(service: WebArchive, answer: bytes) -> None:
    service.behaviour = Behaviour(before=lambda asked: Reply(409, answer) if asked.kind == "store" else None)
    door = _door(service)
    with pytest.raises(RejectedError, match="409"):
        door.store(_images(2))
    door.close()


def test_an_archive_that_takes_a_moment_to_find_what_it_took_is_given_it(service: WebArchive) -> None:
    asked_for = [0]

    def later(asked: Asked) -> Reply | None:
        if asked.kind == "find" and _stores(service) and asked_for[0] < 2:
            asked_for[0] += 1
            return Reply(200, b"[]")
        return None

    service.behaviour = Behaviour(before=later)
    door = _door(service)
    door.store(_images(1))
    assert asked_for == [2]
    door.close()


def test_a_destination_that_only_stores_is_asked_nothing(service: WebArchive) -> None:
    service.behaviour = Behaviour(before=lambda asked: None if asked.kind == "store" else Reply(404))
    door = _door(service, read_back=False)
    door.store(_images(3))
    door.store(_images(3))
    assert {asked.kind for asked in service.asked} == {"store"}
    assert len(_there(service)) == 3
    door.close()


def test_a_lost_answer_is_sent_again_under_the_same_uid(service: WebArchive) -> None:
    lost = [Reply(0), Reply(0)]
    service.behaviour = Behaviour(before=lambda asked: lost.pop() if asked.kind == "store" and lost else None)
    door = _door(service, read_back=False)
    door.store(_images(1))
    assert _stores(service) == 3
    service.behaviour = Behaviour(before=lambda asked: Reply(0))
    with pytest.raises(UnconfirmedError) as error:
        door.store([instance(data_set("1.2.1.1.9"))])
    assert error.value.retry
    assert _stores(service) == 6
    door.close()


def test_an_answer_that_breaks_off_is_no_success(service: WebArchive) -> None:
    """It may have named what was not stored; of a destination that is not asked afterwards nobody would hear it."""
    refusing = _failing("1.2.1.1.1", 0x0122, 200)

    def cut(asked: Asked, reply: Reply) -> Reply:
        said = refusing.after(asked, reply)
        return replace(said, length=len(said.body), reset_after=40)

    service.behaviour = replace(refusing, after=cut)
    door = _door(service, read_back=False)
    with pytest.raises(UnconfirmedError):
        door.store(_images(3))
    door.close()


def test_what_a_partial_success_leaves_out_is_not_stored(service: WebArchive) -> None:
    """202: some were stored. One that is named neither among them nor among the failed is not taken for stored."""

    def silent(asked: Asked, reply: Reply) -> Reply:
        answer = json.loads(reply.body)
        answer["00081199"]["Value"].pop()
        return Reply(202, json.dumps(answer).encode())

    service.behaviour = Behaviour(after=silent)
    door = _door(service, read_back=False)
    with pytest.raises(RejectedError, match="202"):
        door.store(_images(2))
    door.close()


def test_an_archive_that_is_away_is_not_asked_for_ever(service: WebArchive) -> None:
    """Reading back is repeated where instances are missing, not where each question was already repeated."""
    service.behaviour = Behaviour(
        before=lambda asked: Reply(0) if asked.kind == "give" or (_stores(service) and asked.kind == "find") else None
    )
    door = _door(service)
    with pytest.raises(UnreachableError):
        door.store(_images(1))
    assert sum(asked.kind != "store" for asked in service.asked) == 1 + 3
    door.close()
