"""Every attack on a model object is refused with its own error before a byte of a payload is parsed.

The table of them is docs/reference/refused-models.md; RESIDENCY_WRITE_DOCS=1 writes it anew.
"""

from __future__ import annotations

import datetime as dt
import gzip
import io
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydicom
import pytest

from residency.archive import Instance
from residency.archives.memory import MemoryArchive
from residency.dicom.model_object import BYTES, BYTES_DIGEST, LENGTH, plan_parts, series_uid_of
from residency.dicom.model_write import encode_statement
from residency.errors import (
    DigestError,
    GraphError,
    IncompleteError,
    ManifestError,
    MisplacedError,
    ModelError,
    PackageError,
    RevokedError,
    SignatureError,
    UnsignedError,
    UntrustedKeyError,
)
from residency.models import fetch, find_models
from residency.package import ModelPackage, digest_of
from residency.testing.cards import example_package
from residency.testing.graphs import threshold_graph
from residency.testing.tampering import edited, forged, instances, under_its_own_uids, with_text
from residency.trust import (
    Kind,
    Retirement,
    Role,
    Signature,
    SigningKey,
    Statement,
    TrustedKey,
    TrustStore,
    sign_statement,
)

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
KEY, STRANGER, NEW_KEY = (SigningKey.new() for _ in range(3))
PUBLISHER = TrustedKey(KEY.public, frozenset({Role.PUBLISHER}), "Publisher", NOW)
TRUST = TrustStore((PUBLISHER,))
PACKAGE = example_package({"parameters": 4}, graph=threshold_graph())
OTHER = example_package({"identity.family": "other", "parameters": 4}, graph=threshold_graph(scale=2.0))
NEWER = example_package({"identity.version": "2.0.0", "identity.sequence": 2, "parameters": 4}, graph=threshold_graph())

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "refused-models.md"
LOOK_UP = "looking up: no payload is fetched"
FETCHED = "fetching: bytes are compared, none is parsed"
GRAPH = "its first bytes, before they are parsed"


@dataclass(frozen=True)
class Attack:
    """What is stored, which keys the site trusts, and how it must end."""

    name: str
    error: type[ModelError]
    stops: str
    stored: Callable[[], list[Instance]]
    trust: TrustStore = TRUST


def graph_of(data: bytes) -> Callable[[], list[Instance]]:
    """A model whose graph is something else, soundly signed by a trusted publisher."""
    return lambda: instances(example_package({"parameters": 4}, graph=data), KEY)


def manifest_of(change: Callable[[dict[str, Any]], None]) -> Callable[[], list[Instance]]:
    """A manifest with something else in it, soundly signed and in its place."""

    def made() -> list[Instance]:
        text = forged(PACKAGE.manifest, change)
        return [under_its_own_uids(with_text(instances(PACKAGE, KEY)[-1], text, KEY.sign(text)), text)]

    return made


def in_place_of(victim: ModelPackage, text: bytes) -> list[Instance]:
    """The instances of a model with another soundly signed manifest under its UIDs."""
    *parts, manifest = instances(victim, KEY)
    return [*parts, with_text(manifest, text, KEY.sign(text))]


def two_manifests() -> list[Instance]:
    def join(ds: pydicom.Dataset, _: Any) -> None:
        ds.SeriesInstanceUID = series_uid_of(PACKAGE.digest)

    return [*instances(PACKAGE, KEY), edited(instances(NEWER, KEY)[-1], join)]


def stolen_parts() -> list[Instance]:
    plans = plan_parts(PACKAGE.manifest)

    def to(number: int) -> Callable[[pydicom.Dataset, Any], None]:
        def change(ds: pydicom.Dataset, _: Any) -> None:
            ds.SOPInstanceUID, ds.SeriesInstanceUID = plans[number].uid, series_uid_of(PACKAGE.digest)

        return change

    parts = [edited(part, to(number)) for number, part in enumerate(instances(OTHER, KEY)[:-1])]
    return [*parts, instances(PACKAGE, KEY)[-1]]


def changed_part(*, own_digest_too: bool) -> Callable[[], list[Instance]]:
    def change(_: pydicom.Dataset, block: Any) -> None:
        value = bytes([block[BYTES].value[0] ^ 1]) + block[BYTES].value[1:]
        block[BYTES].value = value
        if own_digest_too:
            block[BYTES_DIGEST].value = digest_of(value[: block[LENGTH].value]).removeprefix("sha256:")

    return lambda: [edited(instances(PACKAGE, KEY)[0], change), *instances(PACKAGE, KEY)[1:]]


def changed_manifest() -> list[Instance]:
    *parts, manifest = instances(PACKAGE, KEY)
    return [*parts, with_text(manifest, PACKAGE.manifest.text.replace(b'"seed":0', b'"seed":1'))]


def strangers_signature_under_the_publishers_name() -> list[Instance]:
    *parts, manifest = instances(PACKAGE, KEY)
    forged_signature = Signature(KEY.key_id, STRANGER.sign(PACKAGE.manifest.text).value)
    return [*parts, with_text(manifest, PACKAGE.manifest.text, forged_signature)]


def revoked_version() -> list[Instance]:
    statement = Statement(kind=Kind.REVOKED, subject=PACKAGE.digest, issuer=KEY.key_id, role=Role.PUBLISHER, issued=NOW)
    made = encode_statement(sign_statement(statement, KEY), PACKAGE.manifest, "S")
    return [*instances(PACKAGE, KEY), Instance(made.uid, made.data)]


def zip_bomb() -> bytes:
    """100 MB of zeros in 100 kB."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("data.pkl", bytes(100_000_000))
    return out.getvalue()


def first_payload(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda body: body["payloads"][0].update(values)


RETIRED = replace(PUBLISHER, retired=Retirement(NOW, NEW_KEY.key_id))
ATTACKS = (
    Attack("a pickle as graph, signed by a trusted publisher", GraphError, GRAPH, graph_of(pickle.dumps([1], 4))),
    Attack("a ZIP bomb as graph", GraphError, GRAPH, graph_of(zip_bomb())),
    Attack("a gzip bomb as graph", GraphError, GRAPH, graph_of(gzip.compress(bytes(50_000_000)))),
    Attack("safetensors that claim a huge header", GraphError, GRAPH, graph_of(b"\xff" * 7 + b"\x7f{" + b" " * 99)),
    Attack("an OpenVINO IR as graph", GraphError, GRAPH, graph_of(b'<?xml version="1.0"?><net>' + b" " * 99)),
    Attack(
        "a payload of a kind that is not taken",
        PackageError,
        LOOK_UP,
        manifest_of(first_payload(media_type="application/x-pytorch")),
    ),
    Attack("a payload that claims 1 TB", PackageError, LOOK_UP, manifest_of(first_payload(length=2**40))),
    Attack("a payload named like a path", PackageError, LOOK_UP, manifest_of(first_payload(name="../escape"))),
    Attack(
        "a manifest of megabytes",
        ManifestError,
        LOOK_UP,
        lambda: in_place_of(PACKAGE, PACKAGE.manifest.text + b" " * 2_000_000 + b"x"),
    ),
    Attack("a signature that does not fit", SignatureError, LOOK_UP, changed_manifest),
    Attack(
        "a stranger's signature under the publisher's key id",
        SignatureError,
        LOOK_UP,
        strangers_signature_under_the_publishers_name,
    ),
    Attack("no signature", UnsignedError, LOOK_UP, lambda: instances(PACKAGE, None)),
    Attack(
        "a key that is not trusted, or not any more",
        UntrustedKeyError,
        LOOK_UP,
        lambda: instances(PACKAGE, KEY),
        TrustStore(),
    ),
    Attack(
        "a key that was retired before this was seen",
        UntrustedKeyError,
        LOOK_UP,
        lambda: instances(PACKAGE, KEY),
        TrustStore((RETIRED,)),
    ),
    Attack("a revoked version", RevokedError, LOOK_UP, revoked_version),
    Attack(
        "an old manifest replayed in place of a newer one",
        MisplacedError,
        LOOK_UP,
        lambda: in_place_of(NEWER, PACKAGE.manifest.text),
    ),
    Attack(
        "a manifest over another model's parts",
        MisplacedError,
        LOOK_UP,
        lambda: in_place_of(OTHER, PACKAGE.manifest.text),
    ),
    Attack("a second manifest in the series", MisplacedError, LOOK_UP, two_manifests),
    Attack("a part missing", IncompleteError, LOOK_UP, lambda: instances(PACKAGE, KEY)[1:]),
    Attack("another model's parts under this one's UIDs", MisplacedError, FETCHED, stolen_parts),
    Attack("a part with a changed byte", DigestError, FETCHED, changed_part(own_digest_too=False)),
    Attack(
        "a part with a changed byte and a digest that fits it", DigestError, FETCHED, changed_part(own_digest_too=True)
    ),
)


class Recording(MemoryArchive):
    """Notes every part whose bytes are fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def instances(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        for instance in super().instances(series_uid, sop_uids):
            self.fetched.append(instance.uid)
            yield instance

    def headers(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        before = len(self.fetched)
        yield from super().headers(series_uid, sop_uids)
        del self.fetched[before:]  # an archive in memory has its headers from whole instances


class OpenedError(AssertionError):
    """A payload was parsed."""


@pytest.fixture
def nothing_parses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever parses a payload, ours or a library's, fails the test."""

    def opened(*_: object, **__: object) -> Any:
        raise OpenedError

    class Trap:
        FromString = opened

    monkeypatch.setattr("onnx.ModelProto", Trap)
    monkeypatch.setattr("onnx.load_model_from_string", opened)
    monkeypatch.setattr("residency.files.nifti._parse", opened)
    monkeypatch.setattr("pickle.loads", opened)
    monkeypatch.setattr("pickle.Unpickler", opened)
    monkeypatch.setattr("zipfile.ZipFile", opened)
    monkeypatch.setattr("gzip.decompress", opened)
    monkeypatch.setattr("zlib.decompressobj", opened)


def used(stored: list[Instance], trust: TrustStore) -> tuple[Recording, ModelError]:
    """Look the attacked model up and fetch it; the error that ends it, and the archive that saw it."""
    archive = Recording()
    archive.store(stored)
    models = find_models(archive, trust, now=NOW).models
    model = next((m for m in models if m.error is not None), models[0])
    with pytest.raises(ModelError) as raised:
        fetch(archive, model, trust)
    return archive, raised.value


def test_the_traps_close_on_a_sound_model(nothing_parses: None):
    """Were they open, the attacks would prove nothing."""
    archive = Recording()
    archive.store(instances(PACKAGE, KEY))
    (model,) = find_models(archive, TRUST, now=NOW).models
    with pytest.raises(OpenedError):
        fetch(archive, model, TRUST)
    assert len(archive.fetched) == len(PACKAGE.payloads)


@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])
def test_it_is_refused_with_its_own_error_before_a_byte_is_parsed(attack: Attack, request: pytest.FixtureRequest):
    stored = attack.stored()
    request.getfixturevalue("nothing_parses")  # only now: making an attack may pack a bomb
    archive, error = used(stored, attack.trust)
    assert type(error) is attack.error, error
    assert str(error).isprintable()
    if attack.stops == LOOK_UP:
        assert archive.fetched == []
    else:
        assert archive.fetched


def test_the_page_of_attacks_is_what_is_said_today():
    rows = [(a.name, a.stops, f"`{a.error.__name__}`", _told(str(used(a.stored(), a.trust)[1]))) for a in ATTACKS]
    lines = [f"| {' | '.join(row)} |" for row in (("attack", "found while", "error", "message"), ("---",) * 4, *rows)]
    page = _HEAD + "\n".join(lines) + "\n"
    if os.environ.get("RESIDENCY_WRITE_DOCS"):
        PAGE.write_text(page, "utf-8")
    assert PAGE.read_text("utf-8") == page


_HEAD = """# Models that are refused

Anyone who may store into an archive may store a model object. What such a person can try, where it is found, and what
they are told; `tests/attacks/test_refused_models.py` makes every one of these, shows that no payload is parsed before,
and checks this page. Digests, keys and UIDs are shortened here.

"""


def _told(message: str) -> str:
    short = re.sub(r"sha256:[0-9a-f]{64}", "sha256:...", message)
    return re.sub(r"2\.25\.\d{20,}", "2.25...", short).replace("|", "\\|")
