"""The manifest gives a version its identity: canonical, strict, and every byte of every payload counted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.errors import CardError, DigestError, ManifestError, PackageError
from residency.package import (
    Payload,
    build_package,
    canonical_json,
    digest_of,
    parse_manifest,
    verified_package,
)
from residency.testing.cards import example_card, example_package


def test_the_same_package_has_the_same_digest_whatever_the_order_of_its_payloads():
    package = example_package()
    again = build_package(example_card(), reversed(package.payloads))
    assert again.manifest.text == package.manifest.text
    assert package.digest == digest_of(package.manifest.text)


def test_a_manifest_is_pure_ascii_and_survives_names_of_any_script():
    package = example_package({"identity.publisher.name": "Καλημέρα 病院"})
    assert package.manifest.text.isascii()
    assert parse_manifest(package.manifest.text).card.identity.publisher.name == "Καλημέρα 病院"


@given(st.data())
def test_any_changed_byte_of_a_payload_is_found(data):
    package = example_package(graph=bytes(range(200)))
    at = data.draw(st.integers(0, 199))
    changed = bytearray(range(200))
    changed[at] ^= data.draw(st.integers(1, 255))
    stored = {p.name: p.data for p in package.payloads} | {"graph.onnx": bytes(changed)}
    with pytest.raises(DigestError, match=r"graph\.onnx"):
        verified_package(package.manifest, stored)


@given(st.data())
def test_any_changed_byte_of_a_manifest_changes_the_digest_or_is_refused(data):
    package = example_package()
    text = bytearray(package.manifest.text)
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] ^= data.draw(st.integers(1, 127))
    try:
        changed = parse_manifest(bytes(text))
    except (ManifestError, CardError, PackageError):
        return
    assert changed.digest != package.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[]", "not canonical|members|format"),
        (b"{}", "format"),
        (b'{"format": "residency-model/1"}', "canonical"),
        (b'{"format":"residency-model/9"}', "format 'residency-model/9'"),
        (b'{"a":1,"a":1}', "twice"),
        (b'{"a":NaN}', "NaN"),
        (b"\xff", "ASCII"),
        (b'{"a":' + b"1" * 5000 + b"}", "ASCII JSON"),
        (b"[" * 100_000, "ASCII JSON"),
        (b'"' + b"a" * 1_100_000 + b'"', "at most"),
    ],
)
def test_hostile_manifests_are_refused(text, message):
    with pytest.raises(ManifestError, match=message):
        parse_manifest(text)


def test_a_payload_entry_is_strict():
    package = example_package()
    body = json.loads(package.manifest.text)
    for key, value, error in [
        ("name", "../../etc/passwd", PackageError),
        ("name", "a..b", PackageError),
        ("name", "graph.onnx\n", PackageError),
        ("name", "manifest.json", PackageError),
        ("length", -1, PackageError),
        ("length", 10**12, PackageError),
        ("length", True, PackageError),
        ("media_type", "application/x-python", PackageError),
        ("role", "code", PackageError),
        ("sha256", "sha256:zz", ManifestError),
        ("sha256", "sha256:" + "0" * 64 + "\n", ManifestError),
    ]:
        changed = json.loads(json.dumps(body))
        changed["payloads"][0][key] = value
        with pytest.raises(error):
            parse_manifest(canonical_json(changed))


def test_a_missing_payload_is_named():
    package = example_package()
    stored = {p.name: p.data for p in package.payloads if p.role != "graph"}
    with pytest.raises(PackageError, match=r"graph\.onnx"):
        verified_package(package.manifest, stored)


def test_a_package_without_a_graph_or_with_two_is_refused():
    payloads = [p for p in example_package().payloads if p.role != "graph"]
    with pytest.raises(ManifestError, match="exactly one payload of role 'graph'"):
        build_package(example_card(), payloads)
    graphs = [Payload("graph", f"graph{i}.onnx", "application/onnx", b"x") for i in (1, 2)]
    with pytest.raises(ManifestError, match="exactly one"):
        build_package(example_card(), [*payloads, *graphs])
