"""Questions by QIDO-RS to archives that cap, insist on the hierarchy, or leave out what they were asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from itertools import product

import pytest

from residency.archive import Instance, Level, Query
from residency.archives.dicomweb import DicomWeb
from residency.errors import AnswerError
from residency.settings import ArchiveSettings
from residency.testing.archive import data_set, instance
from residency.testing.misbehaving_web import Asked, Behaviour, Reply, WebArchive, web_archive


@cache
def _held() -> list[Instance]:
    held = [instance(data_set(f"1.2.1.1.{n}")) for n in range(130)]
    held += [instance(data_set(f"1.2.1.2.{n}", series="1.2.1.2", Modality="CT")) for n in range(3)]
    return [*held, instance(data_set("1.2.2.1.1", study="1.2.2", series="1.2.2.1", PatientID="P?"))]


@pytest.fixture
def service() -> Iterator[WebArchive]:
    """Two patients; a study of two series of 130 and 3 instances, and one of one instance."""
    with web_archive() as service:
        service.memory.store(_held())
        yield service


@pytest.fixture
def door(service: WebArchive) -> Iterator[DicomWeb]:
    door = DicomWeb(ArchiveSettings(url=service.url, retries=0))
    yield door
    door.close()


def _capped(rows: int, *, warns: bool) -> Behaviour:
    """No more than so many rows in one answer."""

    def cap(asked: Asked, reply: Reply) -> Reply:
        if asked.kind == "find":
            every = json.loads(reply.body)
            reply.body = json.dumps(every[:rows]).encode()
            if warns and len(every) > rows:
                reply.headers["Warning"] = '299 archive "There are more results"'
        return reply

    return Behaviour(after=cap)


@pytest.mark.parametrize(("rows", "warns"), [(100, False), (64, False), (37, True)])
def test_an_archive_that_caps_its_answers_is_asked_on(
    service: WebArchive, door: DicomWeb, rows: int, warns: bool
) -> None:
    """A series that looks whole with 100 of its 130 slices would be segmented without its upper end."""
    service.behaviour = _capped(rows, warns=warns)
    found = [entry.sop_uid for entry in door.find(Level.INSTANCE, Query(series_uid="1.2.1.1"))]
    assert len(found) == len(set(found)) == 130


def test_an_archive_that_says_there_is_more_and_gives_no_more_is_an_error(service: WebArchive, door: DicomWeb) -> None:
    first = _capped(50, warns=True)

    def again(asked: Asked, reply: Reply) -> Reply:
        return first.after(asked, reply)

    service.behaviour = Behaviour(after=again, before=lambda asked: asked.query.update(offset=["0"]))  # type: ignore
    with pytest.raises(AnswerError, match="more: raise its limit"):
        list(door.find(Level.INSTANCE, Query(series_uid="1.2.1.1")))


@pytest.mark.parametrize("status", [400, 404, 501])
def test_an_archive_that_insists_on_the_hierarchy_is_asked_level_by_level(
    service: WebArchive, door: DicomWeb, status: int
) -> None:
    def insist(asked: Asked) -> Reply | None:
        return Reply(status) if asked.path in ("/series", "/instances") else None

    free = {level: list(door.find(level, Query())) for level in Level}
    service.behaviour = Behaviour(before=insist)
    for level in Level:
        assert sorted(e.sop_uid for e in door.find(level, Query())) == sorted(e.sop_uid for e in free[level])
    assert [e.series_uid for e in door.find(Level.SERIES, Query(modality="CT"))] == ["1.2.1.2"]
    assert len(list(door.instances("1.2.1.2"))) == 3
    door.store([instance(data_set("1.2.3.1.1", study="1.2.3", series="1.2.3.1"))])
    door.store([instance(data_set("1.2.3.1.1", study="1.2.3", series="1.2.3.1"))])
    assert [e.sop_uid for e in door.find(Level.INSTANCE, Query(study_uid="1.2.3"))] == ["1.2.3.1.1"]


def test_what_rows_leave_out_is_asked_of_their_study_and_series(service: WebArchive, door: DicomWeb) -> None:
    """An instance row without Patient ID must not make every model invisible."""

    def leave_out(asked: Asked, reply: Reply) -> Reply:
        if asked.path.endswith("instances"):
            rows = json.loads(reply.body)
            reply.body = json.dumps([{k: v for k, v in r.items() if k not in ("00100020", "00080060")} for r in rows])
            reply.body = reply.body.encode()
        return reply

    service.behaviour = Behaviour(after=leave_out)
    assert len(list(door.find(Level.INSTANCE, Query(patient_id="P1", modality="CT")))) == 3
    assert [e.study_uid for e in door.find(Level.INSTANCE, Query(patient_id="P?"))] == ["1.2.2"]


def test_no_filter_carries_what_servers_read_differently(service: WebArchive, door: DicomWeb) -> None:
    """Percent coding, wildcards and lists mean different things to different servers."""
    for patient in ("P?", "A B", "A&limit=1", "Ä\\B", "%31", "a#b", "+"):
        assert all(e.patient_id == patient for e in door.find(Level.STUDY, Query(patient_id=patient)))
    asked = [asked.query.get("PatientID") for asked in service.asked]
    assert asked == [["P?"], ["A?B"], ["A?limit?1"], ["*?B"], ["?31"], ["a?b"], ["?"]]


@pytest.mark.parametrize("uid", ["", "1.2.1/../..", "1.2.1\\1.2.2", "*", "1.2.1,1.2.2", "1" * 65])
def test_nothing_is_asked_for_what_is_no_uid(service: WebArchive, door: DicomWeb, uid: str) -> None:
    for level, field in product(Level, ("study_uid", "series_uid", "sop_uid", "sop_class")):
        assert list(door.find(level, Query(**{field: uid}))) == []
    assert list(door.instances(uid)) == []
    assert list(door.instances("1.2.1.1", [uid])) == []
    assert not [asked for asked in service.asked if uid and uid in asked.path]


def test_a_series_is_whole_or_refused(service: WebArchive, door: DicomWeb) -> None:
    """The archive counts 130 and gives 129; the last one it lists, and does not give."""
    wanted = "1.2.1.1.77"
    given = list(service.memory.instances("1.2.1.1"))
    service.memory = type(service.memory)()
    service.memory.store(one for one in given if one.uid != wanted)
    service.behaviour = Behaviour(after=_counting(130, wanted))
    with pytest.raises(AnswerError, match=r"1\.2\.1\.1\.77"):
        list(door.instances("1.2.1.1"))
    with pytest.raises(AnswerError, match=r"1\.2\.1\.1\.77"):
        list(door.headers("1.2.1.1"))


def _counting(count: int, listed: str):  # type: ignore[no-untyped-def]
    def claim(asked: Asked, reply: Reply) -> Reply:
        if asked.kind != "find":
            return reply
        rows = json.loads(reply.body)
        for row in rows:
            row["00201209"] = {"vr": "IS", "Value": [count]}
        if asked.path.endswith("instances") and rows:
            rows.append({**rows[0], "00080018": {"vr": "UI", "Value": [listed]}})
        reply.body = json.dumps(rows).encode()
        return reply

    return claim


def test_an_instance_that_is_left_out_of_the_series_is_fetched_by_itself(service: WebArchive, door: DicomWeb) -> None:
    def without_series(asked: Asked) -> Reply | None:
        return Reply(406) if asked.kind == "give" and "instances" not in asked.path else None

    service.behaviour = Behaviour(before=without_series)
    assert len({one.uid for one in door.instances("1.2.1.1")}) == 130


def test_a_stream_that_breaks_goes_on_where_it_was(service: WebArchive) -> None:
    """A long series over a poor line: every attempt brings some, none comes twice."""
    door = DicomWeb(ArchiveSettings(url=service.url, retries=1))
    cuts = iter((30_000, 60_000))

    def cut(asked: Asked, reply: Reply) -> Reply:
        if asked.kind == "give":
            reply.reset_after = next(cuts, None)
            reply.length = len(reply.body)
        return reply

    service.behaviour = Behaviour(after=cut)
    found = [one.uid for one in door.instances("1.2.1.1")]
    assert len(found) == len(set(found)) == 130
    door.close()


def test_where_a_series_lies_is_not_asked_twice(service: WebArchive, door: DicomWeb) -> None:
    """Looking through 500 models, each answer to a second question would be known already."""
    list(door.find(Level.SERIES, Query(series_uid="1.2.1.2")))
    service.asked.clear()
    assert [one.uid for one in door.headers("1.2.1.2", ["1.2.1.2.1"])] == ["1.2.1.2.1"]
    assert [asked.path for asked in service.asked] == ["/studies/1.2.1/series/1.2.1.2/instances/1.2.1.2.1"]


def test_a_series_that_moved_to_another_study_is_found_again(service: WebArchive, door: DicomWeb) -> None:
    list(door.find(Level.SERIES, Query(series_uid="1.2.1.2")))
    service.memory = type(service.memory)()
    service.memory.store([instance(data_set("1.2.1.2.1", study="1.2.9", series="1.2.1.2"))])
    assert [one.uid for one in door.instances("1.2.1.2", ["1.2.1.2.1"])] == ["1.2.1.2.1"]
