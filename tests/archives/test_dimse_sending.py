"""Sending to a destination that only stores: DCMTK's receiver, without the delays that hide lost responses."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from residency.archive import Instance
from residency.archives.dimse import Dimse
from residency.archives.part10 import same_data_set
from residency.errors import ArchiveError, RejectedError
from residency.settings import ArchiveSettings
from residency.testing.archive import data_set, instance
from residency.testing.fence import NoFenceError, fenced, free_port


@dataclass(frozen=True)
class Receiver:
    """A running storescp: its port outside the fence, and where it writes."""

    port: int
    folder: Path

    def door(self, **changes: object) -> Dimse:
        given = {"url": f"dimse://127.0.0.1:{self.port}/STORESCP", "read_back": False, "retries": 0}
        return Dimse(ArchiveSettings.model_validate(given | changes))

    def files(self) -> list[Path]:
        return list(self.folder.iterdir())


@contextmanager
def _storescp(folder: Path, *options: str) -> Iterator[Receiver]:
    if shutil.which("storescp") is None:
        pytest.skip("storescp missing: apt install dcmtk")
    into, port = folder / "received", free_port()
    into.mkdir()
    command = ["env", "TCP_NODELAY=1", "storescp", "--fork", *options, "-od", str(into), str(port)]
    with ExitStack() as stack:
        try:
            doors = stack.enter_context(fenced(command, doors=[port], log=folder / "log"))
        except NoFenceError as error:
            pytest.skip(str(error))
        receiver = Receiver(doors[port], into)
        _wait(receiver)
        yield receiver


def _wait(receiver: Receiver) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            return receiver.door().echo()
        except ArchiveError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _many(count: int, batch: int) -> Iterator[Instance]:
    """Small instances; only their UIDs differ."""
    pattern = "1.2.77.10000.10000"
    made = instance(data_set(pattern)).data
    for number in range(count):
        uid = f"1.2.77.{10000 + batch}.{10000 + number}"
        yield Instance(uid, made.replace(pattern.encode(), uid.encode()))


def test_what_is_sent_is_what_is_stored(tmp_path: Path) -> None:
    images = [instance(data_set(f"1.2.1.1.{n}", SeriesDescription="T1")) for n in range(20)]
    with _storescp(tmp_path, "+xa") as receiver:
        receiver.door().store(images)
        received = {pydicom.dcmread(f).SOPInstanceUID: f.read_bytes() for f in receiver.files()}
    assert set(received) == {i.uid for i in images}
    assert all(same_data_set(received[i.uid], i.data) for i in images)


def test_an_archive_of_one_syntax_gets_an_equal_data_set(tmp_path: Path) -> None:
    """Private values lose their VR in Implicit VR; their bytes and everything else stay."""
    image = data_set("1.2.1.1.1", SeriesDescription="T1", ImageType=["DERIVED", "SECONDARY"])
    block = image.private_block(0x0071, "RESIDENCY TEST 12", create=True)
    block.add_new(0x01, "OB", bytes(range(256)))
    block.add_new(0x02, "LO", "odd")
    with _storescp(tmp_path, "+xi") as receiver:
        receiver.door().store([instance(image)])
        (file,) = receiver.files()
        received = file.read_bytes()
    assert pydicom.dcmread(file).file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert same_data_set(received, instance(image).data)


def test_pixels_are_not_changed_to_be_taken(tmp_path: Path) -> None:
    """A compressed image that the destination does not take is refused, not decoded in silence."""
    image = data_set("1.2.1.1.1")
    del image.PixelData
    packed = instance(image).data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
    with _storescp(tmp_path, "+xi") as receiver:
        with pytest.raises(RejectedError, match=str(RLELossless)):
            receiver.door().store([Instance("1.2.1.1.1", packed)])
        assert receiver.files() == []


def test_big_endian_goes_out_as_it_is(tmp_path: Path) -> None:
    image = instance(data_set("1.2.1.1.1"), ExplicitVRBigEndian)
    with _storescp(tmp_path, "+xa") as receiver:
        receiver.door().store([image])
        (file,) = receiver.files()
        assert same_data_set(file.read_bytes(), image.data)


@pytest.mark.slow
@pytest.mark.parametrize("associations", [1, 4])
def test_no_response_is_lost_in_bulk(tmp_path: Path, associations: int) -> None:
    """20 batches of 500 to a receiver that answers at once; with no second try, a lost response would be an error."""
    with _storescp(tmp_path, "+xa") as receiver:
        door = receiver.door(associations=associations)
        for batch in range(20):
            door.store(_many(500, batch))
            assert len(receiver.files()) == 500 * (batch + 1)
