"""`kill -9` while a model is being published: nothing half is there, and publishing again completes it.

A real process on a real folder archive. It is killed before and after each of its messages to the archive, and at
random moments spread over the whole publication.
"""

from __future__ import annotations

import datetime as dt
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from residency.archive import Level, Query
from residency.archives.folder import FolderArchive
from residency.models import fetch, find_models, publish, write_folder
from residency.package import ModelPackage, Payload, build_package
from residency.testing.cards import example_card
from residency.testing.graphs import threshold_graph
from residency.trust import SigningKey, TrustStore

_PUBLISHER = """
import os, signal, sys
from pathlib import Path
from residency.archives.folder import FolderArchive
from residency.files.pdf import page_pdf
from residency.card.page import card_page
from residency.models import publish, read_folder
from residency.trust import SigningKey
class Dying(FolderArchive):
    last = -1
    def store(self, instances):
        for instance in instances:
            if self.last == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            super().store([instance])
            self.last -= 1

package, key = read_folder(Path(sys.argv[1])), SigningKey.from_pem(Path(sys.argv[2]).read_bytes())
page_pdf(card_page(package.card), "")
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        last, place = line.strip().split(" ", 1)
        archive = Dying(place)
        archive.last = int(last)
        publish(archive, package, key)
        os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()  # until then the child, even if ended, keeps its process id
    print(os.waitpid(child, 0)[1], flush=True)
"""


Start = Callable[..., tuple[int, Callable[[], int]]]


@pytest.fixture(scope="module")
def large_package() -> ModelPackage:
    """Some megabytes in four parts, so that a kill can hit any of them."""
    noise = np.random.default_rng(1).bytes(3_000_000)
    return build_package(
        example_card({"parameters": 4}),
        [
            Payload("graph", "graph.onnx", "application/onnx", threshold_graph()),
            Payload("golden/input", "golden-input.nii.gz", "application/x-nifti+gzip", noise),
            Payload("golden/expected", "golden-expected.nii.gz", "application/x-nifti+gzip", noise[:1_000_000]),
            Payload("report", "report.html", "text/html", noise[::2]),
        ],
    )


@pytest.fixture(scope="module")
def start(large_package: ModelPackage, key: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """start(archive) -> process id of a publication that has just begun, and a function that waits for its end.

    start(archive, n)  it kills itself when it is about to send the archive its n-th message, from 0.
    """
    folder = tmp_path_factory.mktemp("publisher")
    write_folder(folder / "package", large_package)
    (folder / "key").write_bytes(key.pem())
    server = subprocess.Popen(
        [sys.executable, "-c", _PUBLISHER, str(folder / "package"), str(folder / "key")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def begin(archive: Path, last: int = -1) -> tuple[int, Callable[[], int]]:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(f"{last} {archive}\n")
        server.stdin.flush()
        child = int(server.stdout.readline())

        def wait() -> int:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write("\n")
            server.stdin.flush()
            return int(server.stdout.readline())

        return child, wait

    yield begin
    assert server.stdin is not None
    server.stdin.close()
    assert server.wait(60) == 0
    if server.stdout is not None:
        server.stdout.close()


def _uids(archive: FolderArchive) -> set[str]:
    return {row.sop_uid for row in archive.find(Level.INSTANCE, Query())}


def half_or_whole(
    place: Path, expected: set[str], package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
) -> int:
    """No half model can be chosen; publishing again completes it with equal UIDs. How many instances were there."""
    archive = FolderArchive(place)
    found = _uids(archive)
    usable = [m for m in find_models(archive, trust, now=now).models if m.standing.trusted]
    assert found <= expected
    assert len(usable) == (1 if found == expected else 0)
    assert publish(archive, package, key).present == len(found)
    assert _uids(archive) == expected
    (model,) = find_models(archive, trust, now=now).models
    assert fetch(archive, model, trust) == package
    archive.close()
    return len(found)


def test_killed_after_every_message(
    start: Start, large_package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime, tmp_path: Path
):
    """Four parts, the card page, the manifest: nothing is there before the last."""
    _, wait = start(tmp_path / "undisturbed")
    assert wait() == 0
    expected = _uids(FolderArchive(tmp_path / "undisturbed"))
    for sent in range(len(expected)):
        _, wait = start(tmp_path / str(sent), sent)
        assert wait() == signal.SIGKILL
        assert half_or_whole(tmp_path / str(sent), expected, large_package, key, trust, now) == sent


@pytest.mark.parametrize(
    "moments", [pytest.param(6, id="6-moments"), pytest.param(100, id="100-moments", marks=pytest.mark.slow)]
)
def test_killed_while_publishing(  # noqa: PLR0917
    moments: int,
    start: Start,
    large_package: ModelPackage,
    key: SigningKey,
    trust: TrustStore,
    now: dt.datetime,
    tmp_path: Path,
):
    """No half model can be chosen; the next publication gives the same objects as one that was never disturbed."""
    whole_s = 60.0
    for name in ("first", "undisturbed"):
        before = time.monotonic()
        _, wait = start(tmp_path / name)
        assert wait() == 0
        whole_s = min(whole_s, time.monotonic() - before)
    expected = _uids(FolderArchive(tmp_path / "undisturbed"))
    assert len(expected) == 6

    generator = random.Random(20261121)
    killed_at = []
    for number in range(moments):
        place = tmp_path / str(number)
        child, wait = start(place)
        time.sleep(whole_s * (number + generator.random()) / moments)
        os.kill(child, signal.SIGKILL)
        ended = wait()

        killed_at.append(half_or_whole(place, expected, large_package, key, trust, now))
        if ended == 0:
            assert killed_at[-1] == len(expected)
            whole_s *= 0.9  # the machine got faster meanwhile
    interrupted = sum(count < len(expected) for count in killed_at)
    assert interrupted >= moments // 3, f"only {interrupted} kills came before the end: the moments prove little"
