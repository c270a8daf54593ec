"""Command sets and statuses of DIMSE messages (DICOM PS3.7 6.3, 9.3, annex C)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from residency.archives.elements import Encoding, MalformedError, elements
from residency.dicom.dataset import is_uid
from residency.errors import AnswerError, ArchiveError, CredentialsError, RejectedError

C_STORE, C_GET, C_FIND, C_MOVE, C_ECHO, C_CANCEL = 0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x0FFF
RESPONSE = 0x8000
NO_DATA_SET, WITH_DATA_SET = 0x0101, 0x0001

SUCCESS, CANCELLED, PENDING, PENDING_WARNING = 0x0000, 0xFE00, 0xFF00, 0xFF01
SOME_FAILED = 0xB000
"""C-GET and C-MOVE: some sub-operations failed; C-STORE: elements were coerced."""
COERCED, DISCARDED = 0xB000, 0xB006
NOT_AUTHORISED, CLASS_NOT_SUPPORTED, OUT_OF_RESOURCES = 0x0124, 0x0122, 0xA700

_NAMES = {
    "affected_class": (0x0002, "UI"),
    "field": (0x0100, "US"),
    "message_id": (0x0110, "US"),
    "responded_to": (0x0120, "US"),
    "move_destination": (0x0600, "AE"),
    "priority": (0x0700, "US"),
    "data_set": (0x0800, "US"),
    "status": (0x0900, "US"),
    "affected_instance": (0x1000, "UI"),
    "remaining": (0x1020, "US"),
    "completed": (0x1021, "US"),
    "failed": (0x1022, "US"),
    "warnings": (0x1023, "US"),
    "originator": (0x1030, "AE"),
    "originator_message": (0x1031, "US"),
}
_BY_TAG = {tag: (name, vr) for name, (tag, vr) in _NAMES.items()}


@dataclass(frozen=True)
class Command:
    """A command set: those elements of it that we know; 0 or "" where one is not there."""

    field: int = 0
    message_id: int = 0
    responded_to: int = 0
    affected_class: str = ""
    affected_instance: str = ""
    move_destination: str = ""
    priority: int | None = None
    data_set: int = NO_DATA_SET
    status: int | None = None
    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warnings: int | None = None
    originator: str = ""
    originator_message: int | None = None

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows it."""
        return self.data_set != NO_DATA_SET


def encode_command(command: Command) -> bytes:
    """The command set in Implicit VR Little Endian, its group length first (PS3.7 6.3.1)."""
    given = vars(command)
    parts = []
    for name, (tag, vr) in _NAMES.items():
        value = given[name]
        needless = name in ("message_id", "responded_to") and not value
        if value is None or value == "" or needless:
            continue
        coded = struct.pack("<H", value) if vr == "US" else value.encode("ascii")
        coded += (b"\0" if vr == "UI" else b" ") * (len(coded) % 2)
        parts.append(struct.pack("<HHI", 0, tag, len(coded)) + coded)
    body = b"".join(parts)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def decode_command(data: bytes, peer: str) -> Command:
    """Raises AnswerError for what is no command set."""
    found: dict[str, int | str] = {}
    try:
        for element in elements(data, 0, len(data), Encoding(implicit=True)):
            if element.tag not in _BY_TAG:
                continue
            name, vr = _BY_TAG[element.tag]
            value = data[element.value : element.end]
            if vr == "US":
                found[name] = struct.unpack("<H", value)[0]
            else:
                found[name] = value.rstrip(b"\0 ").decode("ascii")
    except (MalformedError, struct.error, UnicodeDecodeError):
        raise AnswerError(f"{peer} sends a command set that is malformed") from None
    for name in ("affected_class", "affected_instance"):
        if found.get(name) and not is_uid(str(found[name])):
            raise AnswerError(f"{peer} sends a command set with a UID that is none")
    return Command(**found)  # type: ignore[arg-type]  # by name: the table above holds the types


_IN_WORDS: Mapping[int, str] = {
    SOME_FAILED: "some sub-operations failed",
    0x0105: "no such attribute",
    0x0110: "processing failure",
    0x0111: "duplicate SOP instance",
    0x0117: "invalid SOP instance",
    CLASS_NOT_SUPPORTED: "SOP class not supported",
    NOT_AUTHORISED: "not authorised",
    0x0211: "unrecognised operation",
    0x0212: "mistyped argument",
    0xA701: "out of resources: it cannot count the matches",
    0xA702: "out of resources: it cannot perform sub-operations",
    0xA801: "it does not know our AE title as a destination",
    0xA900: "the data set does not match its SOP class",
    CANCELLED: "cancelled",
}


def in_words(status: int) -> str:
    """A status as messages show it: its number and what the standard calls it."""
    said = _IN_WORDS.get(status)
    if said is None:
        groups = {0xA7: "out of resources", 0xA9: "the data set does not match its SOP class"}
        said = groups.get(status >> 8, "it cannot process it" if status >> 12 == 0xC else "a failure")
    return f"status {status:04X}, {said}"


def refusal(status: int, what: str) -> ArchiveError:
    """The error for a failure status; `what` names archive and request."""
    message = f"{what}: {in_words(status)}"
    if status == NOT_AUTHORISED:
        return CredentialsError(f"{message}. Have our AE title allowed there")
    return RejectedError(message, retry=status >> 8 == OUT_OF_RESOURCES >> 8)
