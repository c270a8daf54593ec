"""Recognise a network stored in the published layout of IODeep, and say what it claims to hold. Nothing is opened.

Contino et al., Comput Methods Programs Biomed 248:108113 (2024), and its public source: architecture as text in
(0017,0016), weights as base64 of a PyTorch file in (0017,0018), name in (0017,0020), UID in (0017,0022). Those element
numbers are reserved for private creators, so readers see text of VR LO. A PyTorch file is a zip with a pickle, and
unpickling runs whatever the writer put in: so it is never done. What a pickle would import is read from its opcodes as
data.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import pickletools
import zipfile
from dataclasses import dataclass

from pydicom import Dataset, dcmread

from residency.dicom.dataset import quiet

_GROUP = 0x0017
_ARCHITECTURE, _WEIGHTS, _NAME, _UID = 0x0016, 0x0018, 0x0020, 0x0022
_MOST_OPCODES = 100_000
_LARGEST_PICKLE = 16 * 1024 * 1024


@dataclass(frozen=True)
class LegacyReport:
    """What an object of IODeep's layout says of itself.

    claims   (what, value) as found; texts are cut
    holds    what the weights element holds, judged by its bytes
    imports  what its pickle would import, as "module.name"
    refused  why it is not used
    """

    claims: tuple[tuple[str, str], ...]
    holds: str
    imports: tuple[str, ...]
    refused: str


def inspect_legacy(data: bytes) -> LegacyReport | None:
    """A report if this is an object of IODeep's layout, None if it is anything else.

    Also None for bytes that are no DICOM.
    """
    with quiet():
        try:
            ds = dcmread(io.BytesIO(data), force=True)
            weights, architecture = _bytes(ds, _WEIGHTS), _bytes(ds, _ARCHITECTURE)
            return None if weights is None or architecture is None else _report(ds, weights, architecture)
        except Exception:  # pydicom raises many kinds on bytes that are not DICOM
            return None


def _report(ds: Dataset, weights: bytes, architecture: bytes) -> LegacyReport:
    holds, imports = _judge(weights)
    claims = (
        ("network name", _shown(_bytes(ds, _NAME))),
        ("network UID", _shown(_bytes(ds, _UID))),
        ("modality", _shown_value(ds, "Modality")),
        ("body part", _shown_value(ds, "BodyPartExamined")),
        ("rows x columns", f"{_shown_value(ds, 'Rows')} x {_shown_value(ds, 'Columns')}"),
        ("channels", _shown_value(ds, "SamplesPerPixel")),
        ("architecture", _shown(architecture)),
        ("SOP class", _shown_value(ds, "SOPClassUID")),
    )
    refused = (
        "the weights are executable (a pickle) and unsigned, without digest, version, licence or coded labels; "
        "ask its authors for an ONNX export and publish that with a card"
    )
    return LegacyReport(tuple((what, said) for what, said in claims if said), holds, imports, refused)


def _bytes(ds: Dataset, element: int) -> bytes | None:
    """The raw bytes of an element of group 0017, never converted."""
    if (_GROUP, element) not in ds:
        return None
    value: object = ds.get_item((_GROUP, element)).value
    if isinstance(value, bytes):
        return value
    return str(value or "").encode("utf-8", errors="replace")


def _shown(value: bytes | None, most: int = 120) -> str:
    text = (value or b"").decode("ascii", errors="replace").strip(" \0")
    return "".join(c if c.isprintable() else "?" for c in text[:most]) + ("..." if len(text) > most else "")


def _shown_value(ds: Dataset, keyword: str) -> str:
    return _shown(str(ds.get(keyword, "")).encode("ascii", errors="replace"))


def _judge(weights: bytes) -> tuple[str, tuple[str, ...]]:
    """What the weights are, and what their pickle would import."""
    try:
        held = base64.b64decode(weights.strip(b" \0"), validate=True)
    except (binascii.Error, ValueError):
        return f"{len(weights):,} bytes that are not base64", ()
    digest = hashlib.sha256(held).hexdigest()
    if held.startswith(b"PK\x03\x04"):
        name, pickled = _pickle_in_zip(held)
        if name is None:
            return f"a zip of {len(held):,} bytes without a pickle, SHA-256 {digest}", ()
        return f"a PyTorch file of {len(held):,} bytes with the pickle '{name}', SHA-256 {digest}", _imports(pickled)
    if held.startswith(b"\x80"):
        return f"a bare pickle of {len(held):,} bytes, SHA-256 {digest}", _imports(held[:_LARGEST_PICKLE])
    return f"{len(held):,} bytes of an unknown kind, SHA-256 {digest}", ()


def _pickle_in_zip(held: bytes) -> tuple[str | None, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(held)) as packed:
            for info in packed.infolist()[:10_000]:
                if info.filename.endswith(".pkl"):
                    with packed.open(info) as file:
                        return _shown(info.filename.encode("utf-8", errors="replace")), file.read(_LARGEST_PICKLE)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError):
        pass
    return None, b""


def _imports(pickled: bytes) -> tuple[str, ...]:
    """Names that opcodes GLOBAL and STACK_GLOBAL would import. `pickletools` parses and never executes."""
    found: set[str] = set()
    strings: list[str] = []
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
            if count > _MOST_OPCODES:
                break
            if opcode.name in ("GLOBAL", "INST"):
                found.add(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL" and len(strings) >= 2:
                found.add(".".join(strings[-2:]))
            elif isinstance(argument, str):
                strings = [*strings[-1:], argument]
    except ValueError:
        pass
    return tuple(sorted(_shown(name.encode("utf-8", errors="replace")) for name in found))
