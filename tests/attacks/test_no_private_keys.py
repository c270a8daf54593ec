"""The repository and what it ships hold no private key; a fresh installation trusts nobody."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from residency.trust import SigningKey

_PEM = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_BODY = re.compile(rb"(?<![A-Za-z0-9+/])(MC4CAQAwBQYDK2VwBCIEI[A-Za-z0-9+/]{43}=?)")
"""An Ed25519 private key in PKCS #8 as base64 begins with these characters (RFC 8410), with or without a PEM header."""
_DER = bytes.fromhex("302e020100300506032b657004220420")


def holds_private_key(data: bytes) -> bool:
    """True where a PEM header of a private key, or an Ed25519 key in base64 or DER, is in the bytes."""
    return bool(_PEM.search(data) or _BODY.search(data)) or _DER in data


def committed(repository: Path) -> list[Path]:
    """Files that git knows or would take; everything but what is ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [repository / name.decode() for name in listed.stdout.split(b"\0") if name]


def test_the_scan_finds_every_form_of_a_key():
    """A scan that finds nothing proves nothing unless it can find."""
    key = SigningKey.new()
    pem = key.pem()
    der = serialization.load_pem_private_key(pem, None).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    body = b"".join(line for line in pem.splitlines() if not line.startswith(b"-----"))
    for form in (pem, b"text " + body + b" text", b'{"key": "' + body + b'"}', b"\0" + der + b"\0"):
        assert holds_private_key(form)
    assert not holds_private_key(key.public + key.key_id.encode())


def test_the_repository_holds_no_private_key(repository: Path):
    files = committed(repository)
    assert len(files) > 50
    found = [
        str(path.relative_to(repository)) for path in files if path.is_file() and holds_private_key(path.read_bytes())
    ]
    assert found == []


def test_no_shipped_package_carries_a_signature(repository: Path):
    """Packages in the repository are data with digests; who publishes one signs it with a key of their own."""
    for manifest in (repository / "models").glob("*/manifest.json"):
        assert b'"signature"' not in manifest.read_bytes()
        assert not list(manifest.parent.glob("*.sig"))
