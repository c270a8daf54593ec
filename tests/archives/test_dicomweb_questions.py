"""Questions by QIDO-RS to archives that cap, insist on the hierarchy, or leave out what they were asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product

import pytest

from residency.archive import Entry, Instance, Level, Query
from residency.archives.dicomweb import DicomWeb, query
from residency.archives.dicomweb.multipart import Body
from residency.archives.dicomweb.retrieve import BEGINNING
from residency.errors import AnswerError
from residency.settings import ArchiveSettings
from residency.testing.archive import data_set, instance
from residency.testing.misbehaving_web import Asked, Behaviour, Reply, WebArchive, row_of_entry, web_archive


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


@pytest.mark.parametrize(("rows", "warns"), [(100, False), (64, False), (25, False), (16, False), (37, True)])
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


def test_an_archive_with_rows_without_end_is_an_error(
    service: WebArchive, door: DicomWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every page has rows that no page before had."""
    monkeypatch.setattr(query, "MOST_ROWS", 300)
    service.behaviour = Behaviour(after=_ever_new)
    with pytest.raises(AnswerError, match="more than 300 rows"):
        list(door.find(Level.INSTANCE, Query(series_uid="1.2.1.1")))


def _ever_new(asked: Asked, reply: Reply) -> Reply:
    offset = int(asked.query["offset"][0])
    entry = Entry("P1", "1.2.1", "1.2.1.1")
    rows = [row_of_entry(replace(entry, sop_uid=f"1.2.1.1.{offset + n}")) for n in range(100)]
    return Reply(200, json.dumps(rows).encode())


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


def test_a_series_that_lies_in_two_studies_is_given_from_both(service: WebArchive, door: DicomWeb) -> None:
    """Where it was last seen is not all of it."""
    service.memory.store([instance(data_set("1.2.9.9", study="1.2.9", series="1.2.1.2"))])
    list(door.find(Level.SERIES, Query(study_uid="1.2.1")))
    wanted = ["1.2.1.2.1", "1.2.9.9"]
    assert sorted(one.uid for one in door.instances("1.2.1.2", wanted)) == wanted
    assert sorted(one.uid for one in door.headers("1.2.1.2", wanted)) == wanted


@pytest.mark.parametrize("uid", ["../../../../admin?x=1", "1.2.1.2.1/../9", "", ".."])
def test_no_address_is_made_of_what_metadata_call_a_uid(service: WebArchive, door: DicomWeb, uid: str) -> None:
    """With our credentials it would be asked of whatever else stands behind that host."""
    row = {"00080018": {"vr": "UI", "Value": [uid]}, "0020000E": {"vr": "UI", "Value": ["1.2.1.2"]}}
    service.behaviour = _giving_metadata(row)
    with pytest.raises(AnswerError, match="without a UID"):
        list(door.headers("1.2.1.2"))
    assert all(asked.path.endswith("/metadata") for asked in service.asked if asked.kind == "give")


@pytest.mark.parametrize("size", [100, BEGINNING + 1])
def test_a_header_is_that_of_what_was_asked_for(service: WebArchive, door: DicomWeb, size: int) -> None:
    """Headers decide which model is chosen: those of another instance must not pass for it, small or large."""
    other = data_set("1.2.1.2.0", series="1.2.1.2")
    other.PixelData = bytes(size)
    made = Body([instance(other).data], "application/dicom")
    reply = Reply(200, b"".join(made.pieces()), made.content_type)
    service.behaviour = Behaviour(before=lambda asked: reply if "instances/" in asked.path else None)
    with pytest.raises(AnswerError, match="under another UID"):
        list(door.headers("1.2.1.2", ["1.2.1.2.1"]))


def test_a_header_out_of_metadata_is_that_of_what_was_asked_for(service: WebArchive, door: DicomWeb) -> None:
    """What does not reach its pixels in its first bytes is asked for in JSON."""
    other = data_set("1.2.1.2.1", series="1.2.1.2")
    other.add_new("TextValue", "UT", "x" * (BEGINNING + 2**20))
    made = Body([instance(other).data], "application/dicom")
    whole = Reply(200, b"".join(made.pieces()), made.content_type)
    named = {"0020000D": "1.2.1", "0020000E": "1.2.1.2", "00080016": str(other.SOPClassUID), "00080018": "1.2.1.2.2"}
    metadata = _giving_metadata({tag: {"vr": "UI", "Value": [uid]} for tag, uid in named.items()})
    service.behaviour = Behaviour(
        before=lambda asked: metadata.before(asked) or (whole if "instances/" in asked.path else None)
    )
    with pytest.raises(AnswerError, match="under another UID"):
        list(door.headers("1.2.1.2", ["1.2.1.2.1"]))


def _giving_metadata(*rows: dict[str, object]) -> Behaviour:
    return Behaviour(
        before=lambda asked: Reply(200, json.dumps(rows).encode()) if asked.path.endswith("/metadata") else None
    )


def test_a_series_that_moved_to_another_study_is_found_again(service: WebArchive, door: DicomWeb) -> None:
    list(door.find(Level.SERIES, Query(series_uid="1.2.1.2")))
    service.memory = type(service.memory)()
    service.memory.store([instance(data_set("1.2.1.2.1", study="1.2.9", series="1.2.1.2"))])
    assert [one.uid for one in door.instances("1.2.1.2", ["1.2.1.2.1"])] == ["1.2.1.2.1"]
