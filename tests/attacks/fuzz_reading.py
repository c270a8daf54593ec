"""Mutated instances through the whole of reading, in a process of its own that the tests start and watch.

    python fuzz_reading.py SEEDS PLACE SEED FIRST COUNT

Runs COUNT cases from number FIRST on. A case is made from its number and SEED alone, so any of them can be made again.
The number of the case at work stands in the file PLACE, as 8 bytes, for whoever finds this process dead. Ends with one
JSON line: cases refused, cases read, most memory, slowest case. Anything but an InputError ends it with a traceback.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import random
import struct
import sys
import time
from pathlib import Path

from residency.dicom import decoders
from residency.dicom.labels import read_labels
from residency.dicom.series import open_series
from residency.errors import InputError

SPINNING_S = 300
"""After so long in fifty cases the process ends itself with a traceback."""

DECODER_S = 0.25
"""CPU seconds for a frame here; in earnest 2, which a fuzzer with many spinning decoders cannot wait for."""

NUMBERS = (0, 1, 2, 3, 7, 8, 12, 15, 16, 17, 31, 32, 33, 64, 127, 128, 255, 256, 4096, 32767, 32768, 65534, 65535)
LONG = (0, 1, 7, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
MARKERS = (
    b"\xff\xd8",
    b"\xff\xd9",
    b"\xff\xc0",
    b"\xff\xc4",
    b"\xff\xda",
    b"\xff\xdd",
    b"\xff\xf7",
    b"\xff\xf8",
    b"\xff\x52",
)
VRS = (b"US", b"SS", b"UL", b"DS", b"IS", b"OB", b"OW", b"SQ", b"UN", b"LO", b"UI", b"FD", b"AT", b"OF", b"UT", b"XX")
TEXTS = (
    b"nan",
    b"inf",
    b"-1",
    b"1e400",
    b"0",
    b"",
    b"1\\2\\3",
    b"\\\\",
    b"\x00" * 4,
    b"1.2.3..4",
    b"9" * 40,
    b"\x1b$B\xff",
)
LONG_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UN", b"UT", b"UC", b"UR", b"SV", b"UV"})
PIXELS = b"\xe0\x7f\x10\x00"


class Elements:
    """Where the elements of an Explicit VR Little Endian data set lie, as far as they can be followed."""

    def __init__(self, data: bytes) -> None:
        self.found: list[tuple[int, int, int]] = []  # start, start of the value, end
        at = 132
        while at + 8 <= len(data):
            long = data[at + 4 : at + 6] in LONG_VRS
            value = at + (12 if long else 8)
            length = struct.unpack_from("<L", data, at + 8)[0] if long and value <= len(data) else 0
            length = length if long else struct.unpack_from("<H", data, at + 6)[0]
            end = len(data) if length == 0xFFFFFFFF else value + length
            if end > len(data):
                break
            self.found.append((at, value, end))
            at = end
        self.pixels = next((value for at, value, _ in self.found if data[at : at + 4] == PIXELS), len(data))


class Fuzzer:
    """Makes cases: a seed, and one to four mutations of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.names = sorted(path.name for path in folder.iterdir())
        self.seeds = [(folder / name).read_bytes() for name in self.names]
        self.elements = [Elements(data) for data in self.seeds]
        self.seed = seed

    def case(self, number: int) -> bytes:
        """The bytes of one case."""
        rng = random.Random(f"{self.seed}/{number}")
        which = rng.randrange(len(self.seeds))
        data, parts = bytearray(self.seeds[which]), self.elements[which]
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            mutate = rng.choice((self.value, self.value, self.length, self.element, self.raw, self.stream, self.stream))
            mutate(rng, data, parts)
        return bytes(data)

    def value(self, rng: random.Random, data: bytearray, parts: Elements) -> None:
        """Another value, number or text, in an element of the header."""
        start, value, end = rng.choice(parts.found)
        if data[start + 4 : start + 6] in (b"US", b"SS"):
            data[value : value + 2] = struct.pack("<H", rng.choice(NUMBERS))
        elif end > value:
            text = rng.choice(TEXTS)
            data[value:end] = (text + b" " * (end - value))[: end - value]

    def length(self, rng: random.Random, data: bytearray, parts: Elements) -> None:
        """Another length, or another VR, before the same bytes."""
        start, value, _ = rng.choice(parts.found)
        if rng.random() < 0.4:
            data[start + 4 : start + 6] = rng.choice(VRS)
        elif value - start == 12:
            data[start + 8 : start + 12] = struct.pack("<L", rng.choice(LONG + NUMBERS))
        else:
            data[start + 6 : start + 8] = struct.pack("<H", rng.choice(NUMBERS))

    def element(self, rng: random.Random, data: bytearray, parts: Elements) -> None:
        """A whole element taken out, doubled, moved, or taken from another seed."""
        start, _, end = rng.choice(parts.found)
        whole, kind = bytes(data[start:end]), rng.random()
        if kind < 0.4:
            del data[start:end]
        elif kind < 0.6:
            data[end:end] = whole
        elif kind < 0.8:
            other = rng.randrange(len(self.seeds))
            a, _, b = rng.choice(self.elements[other].found)
            data[start:end] = self.seeds[other][a:b]
        else:
            del data[start:end]
            at = rng.choice(parts.found)[0]
            data[at:at] = whole

    def raw(self, rng: random.Random, data: bytearray, _parts: Elements) -> None:
        """Bytes changed, taken out or put in anywhere; or the end cut off."""
        self._bytes(rng, data, 132, len(data))

    def stream(self, rng: random.Random, data: bytearray, parts: Elements) -> None:
        """The same within Pixel Data: headers of streams, tables of offsets, entropy-coded bytes, markers."""
        first = min(parts.pixels, len(data))
        last = min(len(data), first + 200) if rng.random() < 0.5 else len(data)
        if rng.random() < 0.2 and last > first:
            at = rng.randrange(first, last)
            data[at : at + rng.choice((0, 2))] = rng.choice(MARKERS)
        else:
            self._bytes(rng, data, first, last)

    @staticmethod
    def _bytes(rng: random.Random, data: bytearray, first: int, last: int) -> None:
        if last <= first or first >= len(data):
            return
        at, kind = rng.randrange(first, last), rng.random()
        if at >= len(data):
            return
        if kind < 0.4:
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)))
        elif kind < 0.6:
            data[at] ^= 1 << rng.randrange(8)
        elif kind < 0.75:
            data[at : at + 4] = struct.pack(rng.choice(("<L", ">L")), rng.choice(LONG))
        elif kind < 0.85:
            del data[at : at + rng.randrange(1, 9)]
        elif kind < 0.95:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        else:
            del data[at:]


def read(data: bytes) -> bool:
    """True if the instance was read, False if it was refused; every other error goes through."""
    try:
        read_labels([data])
        open_series([data]).volume()
    except InputError as error:
        if "Phantom^Test" in str(error):
            raise AssertionError("the message tells the patient") from error
        return False
    return True


def main() -> None:
    """As the module says."""
    folder, place, seed, first, count = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:6])
    decoders.LEAST_SECONDS = DECODER_S
    fuzzer = Fuzzer(folder, seed)
    outcomes, slowest = [0, 0], (0.0, -1)
    with place.open("r+b") as file, mmap.mmap(file.fileno(), 8) as at:
        for number in range(first, first + count):
            at[:8] = struct.pack("<Q", number)
            if number % 50 == 0:
                faulthandler.dump_traceback_later(SPINNING_S, exit=True)
            data = fuzzer.case(number)
            began = time.process_time()
            outcomes[read(data)] += 1
            slowest = max(slowest, (time.process_time() - began, number))
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"refused": outcomes[0], "read": outcomes[1], "megabytes": _most_memory(), "slowest": slowest}))


def _most_memory() -> int:
    """MiB that this process has held at most. Not of getrusage, which begins with what the parent held at the fork."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    main()
