"""A DIMSE archive that goes wrong: each way ends in an error of its own, and nothing half published is offered."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from residency.archive import Level, Query
from residency.archives.dimse import Dimse
from residency.errors import AlteredError, AnswerError, LostError, RejectedError, ResidencyError
from residency.models import fetch, find_models, publish
from residency.package import ModelPackage
from residency.testing.archive import data_set, instance
from residency.testing.fence import free_port
from residency.testing.misbehaving import Outcome, check_section, kind_of, shown, state_of
from residency.testing.misbehaving_scp import Behaviour, MisbehavingScp, running_scp
from residency.trust import SigningKey, TrustStore

MIB = 2**20


@dataclass(frozen=True)
class Case:
    behaviour: Behaviour
    error: str
    said: str = ""
    times: int | None = None
    limit: int = 16

    @property
    def words(self) -> str:
        return self.said or str(self.behaviour)


STORING = [
    Case(Behaviour.LOSES, "LostError"),
    Case(Behaviour.DROPS_PRIVATE, "AlteredError"),
    Case(Behaviour.MOVES_PRIVATE, "AlteredError"),
    Case(Behaviour.TRUNCATES, "AlteredError"),
    Case(Behaviour.COERCES, "AlteredError"),
    Case(Behaviour.REFUSES_CLASS, "RejectedError"),
    Case(Behaviour.REFUSES_OBJECT, "RejectedError"),
    Case(Behaviour.NOT_AUTHORISED, "CredentialsError"),
    Case(Behaviour.FULL, "RejectedError"),
    Case(Behaviour.FULL, "", "answers A700 to a C-STORE once", times=1),
    Case(Behaviour.RESETS_STORING, "UnconfirmedError"),
    Case(Behaviour.RESETS_STORING, "", "closes the connection once instead of answering a C-STORE", times=1),
    Case(Behaviour.SLOW, "UnreachableError"),
    Case(Behaviour.WRONG_ROWS, ""),
    Case(Behaviour.MALFORMED_ROWS, "AnswerError"),
    Case(Behaviour.REJECTS_CALLER, "CredentialsError"),
    Case(Behaviour.REJECTS_CALLED, "CredentialsError"),
    Case(Behaviour.BUSY, "UnreachableError"),
    Case(Behaviour.STRICT, ""),
    Case(Behaviour.STRICT_AND_SILENT, ""),
    Case(Behaviour.KEEPS_TO_ITSELF, ""),
    Case(Behaviour.ENDS_WITH_A_ROW, ""),
    Case(Behaviour.NO_CLASSES, ""),
]

FETCHING = [
    Case(Behaviour.RESETS_SENDING, "UnreachableError"),
    Case(Behaviour.RESETS_BETWEEN, ""),
    Case(Behaviour.ABORTS, "UnreachableError"),
    Case(Behaviour.SLOW, "UnreachableError"),
    Case(Behaviour.FAILS_SOME, "RejectedError"),
    Case(Behaviour.SENDS_NONE, "AnswerError"),
    Case(Behaviour.UNASKED, "AnswerError"),
    Case(Behaviour.ANOTHER, "AnswerError"),
    Case(Behaviour.ONE_BY_ONE, ""),
]
MOVING = [Case(c.behaviour, "" if c.behaviour == Behaviour.UNASKED else c.error) for c in FETCHING]


def _door(scp: MisbehavingScp, **changes: Any) -> Dimse:
    patience = {"timeout_s": 0.5 if scp.behaviour == Behaviour.SLOW else 10.0, "retries": 1}
    return Dimse(scp.settings(**patience | changes))


def _caught(action: Callable[[], object]) -> ResidencyError | None:
    try:
        action()
    except ResidencyError as error:
        return error
    return None


def _shown(error: ResidencyError | None, scp: MisbehavingScp) -> str:
    said = shown(error, scp.settings().url)
    return re.sub(r"the archive SCP at UID:[0-9]+", "ARCHIVE", said)


def _stored(case: Case, package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime) -> Outcome:
    with running_scp(case.behaviour, times=case.times, limit=case.limit, pause_s=1.0) as scp:
        scp.content.store([instance(data_set("1.2.1.1.1"))])
        door = _door(scp)
        error = _caught(lambda: publish(door, package, key))
        state = state_of(scp.content, trust, now)
        door.close()
    assert (kind_of(error) if error else "") == case.error, f"{case.words}: {error!r}"
    assert ("whole" in state) == (error is None), f"{case.words}: {state}"
    return Outcome(case.words, _shown(error, scp), state)


def _fetched(
    case: Case, package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime, **changes: Any
) -> Outcome:
    with running_scp(move_port=free_port(), pause_s=1.0) as scp:
        publish(scp.content, package, key)
        (model,) = find_models(scp.content, trust, now=now).models
        scp.behaviour, scp.times = case.behaviour, case.times
        door = _door(scp, **changes)
        error = _caught(lambda: fetch(door, model, trust))
        scp.behaviour = Behaviour.GOOD
        door.close()
        again = fetch(_door(scp), model, trust)
    assert (kind_of(error) if error else "") == case.error, f"{case.words}: {error!r}"
    assert again.digest == package.digest
    used = "nothing is used; fetched again it is whole" if error else "the model is fetched, whole"
    return Outcome(case.words, _shown(error, scp), used)


@pytest.mark.slow
def test_every_misbehaviour_while_publishing_ends_in_its_own_error(
    package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime, repository: Path
) -> None:
    """Each row of the page; and the page is the committed one."""
    rows = [_stored(case, package, key, trust, now) for case in STORING]
    check_section(repository, "DIMSE, while a model is published", rows)


@pytest.mark.slow
@pytest.mark.parametrize("retrieve", ["get", "move"])
def test_every_misbehaviour_while_fetching_ends_in_its_own_error(
    package: ModelPackage,
    key: SigningKey,
    trust: TrustStore,
    now: dt.datetime,
    repository: Path,
    retrieve: str,
) -> None:
    """Each row of the page; and the page is the committed one."""
    cases = FETCHING if retrieve == "get" else MOVING
    rows = [_fetched(case, package, key, trust, now, retrieve=retrieve) for case in cases]
    check_section(repository, f"DIMSE, while a model is fetched by C-{retrieve.upper()}", rows)


def test_a_loss_is_found_by_reading_back() -> None:
    with running_scp(Behaviour.LOSES) as scp, pytest.raises(LostError):
        _door(scp).store([instance(data_set("1.2.1.1.1"))])


def test_a_change_is_found_and_named() -> None:
    with running_scp(Behaviour.COERCES) as scp:
        with pytest.raises(AlteredError, match=r"PatientID \(0010,0020\)"):
            _door(scp).store([instance(data_set("1.2.1.1.1"))])
        with pytest.raises(AlteredError, match=r"coerced .* 1\.2\.1\.1\.2"):
            _door(scp, read_back=False).store([instance(data_set("1.2.1.1.2"))])


def test_a_value_cut_at_16_mib_is_found() -> None:
    """Some archives keep no longer values; the rest of the object looks whole."""
    image = data_set("1.2.1.1.1", Rows=4096, Columns=2200)
    image.PixelData = bytes(2 * 4096 * 2200)
    with running_scp(Behaviour.TRUNCATES) as scp, pytest.raises(AlteredError, match=f"to {16 * MIB} bytes"):
        _door(scp, timeout_s=60.0).store([instance(image)])


def test_every_failed_instance_is_named() -> None:
    with running_scp(Behaviour.REFUSES_OBJECT) as scp:
        with pytest.raises(RejectedError, match=r"1\.2\.1\.1\.0, 1\.2\.1\.1\.1, 1\.2\.1\.1\.2"):
            _door(scp).store(instance(data_set(f"1.2.1.1.{n}")) for n in range(3))
        assert list(scp.content.find(Level.INSTANCE, Query())) == []


def test_an_instance_that_nobody_asked_for_is_not_taken() -> None:
    with running_scp() as scp:
        scp.content.store(instance(data_set(f"1.2.1.1.{n}")) for n in range(3))
        scp.behaviour = Behaviour.UNASKED
        with pytest.raises(AnswerError, match="nobody asked for"):
            list(_door(scp).instances("1.2.1.1"))


def test_what_a_reset_left_is_fetched_again() -> None:
    with running_scp() as scp:
        scp.content.store(instance(data_set(f"1.2.1.1.{n}")) for n in range(3))
        scp.behaviour = Behaviour.RESETS_BETWEEN
        assert len(list(_door(scp).instances("1.2.1.1"))) == 3


def test_what_is_listed_and_does_not_come_at_first_is_fetched_again() -> None:
    """An archive that is storing an instance anew may list it and not have it for a moment."""
    with running_scp() as scp:
        scp.content.store([instance(data_set("1.2.1.1.1"))])
        scp.behaviour, scp.times = Behaviour.SENDS_NONE, 1
        assert [one.uid for one in _door(scp).instances("1.2.1.1")] == ["1.2.1.1.1"]
        scp.times = None
        with pytest.raises(AnswerError, match=r"lists what it does not send: 1\.2\.1\.1\.1"):
            list(_door(scp, retries=1).instances("1.2.1.1"))
