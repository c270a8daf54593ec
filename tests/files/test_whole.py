"""A file is there whole or not at all, also with several writers and links that somebody planted."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from residency.files.whole import whole


def test_two_writers_at_once_do_not_mix(tmp_path: Path) -> None:
    file = tmp_path / "made" / "a.bin"
    with whole(file) as first:
        first.write(b"1" * 50)
        with whole(file) as second:
            second.write(b"2" * 100)
        assert file.read_bytes() == b"2" * 100
        first.write(b"1" * 50)
    assert file.read_bytes() == b"1" * 100
    assert list(file.parent.iterdir()) == [file]


def test_a_planted_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, other = tmp_path / "a.bin", tmp_path / "other"
    other.write_bytes(b"kept")
    (tmp_path / "a.bin.part").symlink_to(other)
    with whole(file) as stream:
        stream.write(b"new")
    assert (file.read_bytes(), other.read_bytes()) == (b"new", b"kept")
    monkeypatch.setattr("secrets.token_hex", lambda count: "00" * count)  # as if the name could be foreseen
    planted = tmp_path / f"a.bin.{os.getpid()}-00000000.part"
    planted.symlink_to(other)
    with pytest.raises(FileExistsError), whole(file) as stream:
        stream.write(b"newer")
    assert (file.read_bytes(), other.read_bytes(), planted.is_symlink()) == (b"new", b"kept", True)


def test_a_failure_leaves_the_file_as_it_was_and_no_part(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"old")

    def fail(error: type[Exception]) -> None:
        with whole(file) as stream:
            stream.write(b"half")
            raise error

    for error in (ValueError, FileExistsError):
        with pytest.raises(error):
            fail(error)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_killed_writer_left_is_removed_and_what_another_writes_is_not(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    forgotten, fresh, foreign = (tmp_path / f"{name}.part" for name in ("a.bin.1-0123abcd", "a.bin.2-0123abcd", "b"))
    for part in (forgotten, fresh, foreign):
        part.write_bytes(b"half")
    for part in (forgotten, foreign):
        os.utime(part, (time.time() - 7200,) * 2)
    with whole(file) as stream:
        stream.write(b"new")
    assert sorted(tmp_path.iterdir()) == sorted([file, fresh, foreign])
