"""`kill -9` while a model is being published: nothing half is there, and publishing again completes it.

A real process on a real folder archive. It is killed at random moments spread over the whole publication.
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
import os, sys
from pathlib import Path
from residency.archives.folder import FolderArchive
from residency.files.pdf import page_pdf
from residency.card.page import card_page
from residency.models import publish, read_folder
from residency.trust import SigningKey
package, key = read_folder(Path(sys.argv[1])), SigningKey.from_pem(Path(sys.argv[2]).read_bytes())
page_pdf(card_page(package.card), "")
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        publish(FolderArchive(line.strip()), package, key)
        os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()  # until then the child, even if ended, keeps its process id
    print(os.waitpid(child, 0)[1], flush=True)
"""


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
def start(
    large_package: ModelPackage, key: SigningKey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Path], tuple[int, Callable[[], int]]]]:
    """start(archive) -> process id of a publication that has just begun, and a function that waits for its end."""
    folder = tmp_path_factory.mktemp("publisher")
    write_folder(folder / "package", large_package)
    (folder / "key").write_bytes(key.pem())
    server = subprocess.Popen(
        [sys.executable, "-c", _PUBLISHER, str(folder / "package"), str(folder / "key")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def begin(archive: Path) -> tuple[int, Callable[[], int]]:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(f"{archive}\n")
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


@pytest.mark.parametrize(
    "moments", [pytest.param(6, id="6-moments"), pytest.param(50, id="50-moments", marks=pytest.mark.slow)]
)
def test_killed_while_publishing(  # noqa: PLR0917
    moments: int,
    start: Callable[[Path], tuple[int, Callable[[], int]]],
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

        archive = FolderArchive(place)
        found = _uids(archive)
        killed_at.append(len(found))
        usable = [m for m in find_models(archive, trust, now=now).models if m.standing.trusted]
        assert found <= expected
        assert len(usable) == (1 if found == expected else 0)
        if ended == 0:
            assert found == expected
            whole_s *= 0.9  # the machine got faster meanwhile
        publish(archive, large_package, key)
        assert _uids(archive) == expected
        (model,) = find_models(archive, trust, now=now).models
        assert fetch(archive, model, trust) == large_package
        archive.close()
    interrupted = sum(count < len(expected) for count in killed_at)
    assert interrupted >= moments // 3, f"only {interrupted} kills came before the end: the moments prove little"
