"""Instances damaged at random are read or refused in one printable line; there is no crash and no usable model."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from residency.archive import Entry, Instance, Query
from residency.archives.memory import MemoryArchive
from residency.dicom.legacy import inspect_legacy
from residency.dicom.model_object import ManifestObject, PartObject, StatementObject
from residency.dicom.model_read import decode
from residency.errors import ModelError
from residency.models import find_models
from residency.trust import TrustStore

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "model_object"
FILES = [(GOLDEN / name).read_bytes() for name in ("manifest.dcm", "part-1.dcm")]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file with some bytes changed, removed or inserted after its preamble, or cut short."""
    data = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(128, len(data) - 1))
        kind = draw(st.sampled_from(["change", "remove", "insert", "cut"]))
        if kind == "change":
            data[at] = draw(st.integers(0, 255))
        elif kind == "remove":
            del data[at : at + draw(st.integers(1, 20))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=20))
        elif at > 200:
            del data[at:]
        if len(data) < 300:
            break
    return bytes(data)


@given(damaged())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_instances_are_read_or_refused_in_words(data: bytes):
    message = ""
    try:
        assert isinstance(decode(data), PartObject | ManifestObject | StatementObject)
    except ModelError as error:
        message = str(error)
    assert message.isprintable()
    assert len(message) < 1000
    assert inspect_legacy(data) is None


class Holding(MemoryArchive):
    """Gives back one instance as it is, whatever it holds: an archive that was damaged itself."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.one = Instance("1.2.3", data)

    def find(self, level: object, query: Query):  # type: ignore[no-untyped-def, override]
        yield Entry("RESIDENCY-MODELS", "1.2", "1.2.1", "1.2.3", "1.2.840.10008.5.1.4.1.1.66", "OT", "", "MANIFEST", 1)

    def headers(self, series_uid: str, sop_uids: object = None):  # type: ignore[no-untyped-def, override]
        yield self.one


@given(damaged())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_damaged_manifest_is_listed_and_never_usable(data: bytes):
    library = find_models(Holding(data), TrustStore(), now=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    assert not any(model.standing.trusted for model in library.models)
    assert all(model.error is not None for model in library.models)
