"""`kill -9` while a model is being published over the network: nothing half can be chosen, and a rerun completes it.

A real process against a real Orthanc, by DICOMweb and by DIMSE. It is killed before each of its messages, and at random
moments spread over the whole publication.
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
from contextlib import closing

import numpy as np
import pytest

from residency.archive import Archive, Level, Query
from residency.assemble import open_archive
from residency.models import fetch, find_models, publish, write_folder
from residency.package import ModelPackage, Payload, build_package
from residency.settings import ArchiveSettings, Settings
from residency.testing.cards import example_card
from residency.testing.fence import NoFenceError
from residency.testing.graphs import threshold_graph
from residency.testing.orthanc import Orthanc, running_orthanc
from residency.trust import SigningKey, TrustStore

_PUBLISHER = """
import os, signal, sys
from pathlib import Path
import residency.archives.dicomweb, residency.archives.dimse
from residency.archive import Instance
from residency.assemble import open_archive
from residency.card.page import card_page
from residency.files.pdf import page_pdf
from residency.models import publish, read_folder
from residency.settings import ArchiveSettings, Settings
from residency.trust import SigningKey

class Dying:
    def __init__(self, archive, last):
        self._archive, self._last = archive, last
    def __getattr__(self, name):
        return getattr(self._archive, name)
    def store(self, instances):
        for instance in instances:
            if self._last == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self._archive.store([instance])
            self._last -= 1

package, key = read_folder(Path(sys.argv[1])), SigningKey.from_pem(Path(sys.argv[2]).read_bytes())
page_pdf(card_page(package.card), "")
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        last, described = line.strip().split(" ", 1)
        archives = {"orthanc": ArchiveSettings.model_validate_json(described)}
        publish(Dying(open_archive("orthanc", Settings(archives=archives)), int(last)), package, key)
        os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()  # until then the child, even if ended, keeps its process id
    print(os.waitpid(child, 0)[1], flush=True)
"""

Start = Callable[..., tuple[int, Callable[[], int]]]


@pytest.fixture(scope="module")
def orthanc() -> Iterator[Orthanc]:
    try:
        with running_orthanc() as running:
            yield running
    except NoFenceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    """Some hundred kilobytes in three parts."""
    noise = np.random.default_rng(1).bytes(300_000)
    return build_package(
        example_card({"parameters": 4}),
        [
            Payload("graph", "graph.onnx", "application/onnx", threshold_graph()),
            Payload("golden/input", "golden-input.nii.gz", "application/x-nifti+gzip", noise),
            Payload("golden/expected", "golden-expected.nii.gz", "application/x-nifti+gzip", noise[:100_000]),
        ],
    )


@pytest.fixture(scope="module")
def start(package: ModelPackage, key: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """start(settings) -> process id of a publication that has just begun, and a function that waits for its end.

    start(settings, n)  it kills itself when it is about to send the archive its n-th message, from 0.
    """
    folder = tmp_path_factory.mktemp("publisher")
    write_folder(folder / "package", package)
    (folder / "key").write_bytes(key.pem())
    command = [sys.executable, "-c", _PUBLISHER, str(folder / "package"), str(folder / "key")]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin is not None
    assert server.stdout is not None
    given, told = server.stdin, server.stdout

    def begin(described: ArchiveSettings, last: int = -1) -> tuple[int, Callable[[], int]]:
        given.write(f"{last} {described.model_dump_json(exclude_defaults=True)}\n")
        given.flush()
        child = int(told.readline())

        def wait() -> int:
            given.write("\n")
            given.flush()
            return int(told.readline())

        return child, wait

    yield begin
    given.close()
    assert server.wait(60) == 0
    told.close()


def uids(archive: Archive) -> set[str]:
    return {row.sop_uid for row in archive.find(Level.INSTANCE, Query())}


def half_or_whole(
    archive: Archive, whole: int, package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
) -> int:
    """No half model can be chosen; publishing again completes it with equal UIDs. How many instances were there.

    A request that was on its way when its sender died may still land while this looks.
    """
    found = uids(archive)
    usable = [m for m in find_models(archive, trust, now=now).models if m.standing.trusted]
    landed = uids(archive)
    assert len(usable) in {int(len(found) == whole), int(len(landed) == whole)}
    published = publish(archive, package, key)
    assert len(landed) <= published.present
    assert published.present + published.stored == whole
    complete = uids(archive)
    assert len(complete) == whole
    assert found <= complete
    (model,) = find_models(archive, trust, now=now).models
    assert fetch(archive, model, trust) == package
    return len(found)


@pytest.mark.parametrize("door", ["web", "dimse"])
@pytest.mark.parametrize(
    "moments", [pytest.param(1, id="1-moment"), pytest.param(25, id="25-moments", marks=pytest.mark.slow)]
)
def test_killed_while_publishing_over_the_network(  # noqa: PLR0917
    door: str,
    moments: int,
    orthanc: Orthanc,
    start: Start,
    package: ModelPackage,
    key: SigningKey,
    trust: TrustStore,
    now: dt.datetime,
):
    described = orthanc.by_web() if door == "web" else orthanc.by_dimse()
    orthanc.clear()
    with closing(open_archive("orthanc", Settings(archives={"orthanc": described}))) as archive:
        before = time.monotonic()
        assert start(described)[1]() == 0
        whole_s, expected = time.monotonic() - before, uids(archive)
        assert len(expected) == 5, "three parts, the card page, the manifest"

        for sent in range(5) if moments > 1 else (2, 4):
            orthanc.clear()
            assert start(described, sent)[1]() == signal.SIGKILL
            assert half_or_whole(archive, 5, package, key, trust, now) == sent
            assert uids(archive) == expected

        generator = random.Random(20261121)
        for number in range(moments):
            orthanc.clear()
            child, wait = start(described)
            time.sleep(whole_s * (number + generator.random()) / moments)
            os.kill(child, signal.SIGKILL)
            wait()
            half_or_whole(archive, 5, package, key, trust, now)
            assert uids(archive) == expected
