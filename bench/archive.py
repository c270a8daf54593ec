"""The archive's doors against each other and against their peers: publish and fetch a model, store and fetch a series.

    python bench/archive.py [--quick] [--json FILE]

A folder, DICOMweb and DIMSE, the last two against one Orthanc; beside them, in the same run, DCMTK's storescu and
getscu and dicomweb-client. Everything stands in a network namespace of its own, so that no server can be reached from
elsewhere; each measurement is a process of its own. What ours does more than its peers do, it does in the figures: it
asks before it stores, reads back and compares, unless a row says `no read-back`.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from contract import REPOSITORY, Claim, Report, main
from residency.archive import Instance, Level, Query
from residency.archives.memory import MemoryArchive
from residency.dicom.dataset import parse, sop_uid
from residency.models import publish
from residency.models.folder import write_folder
from residency.settings import ArchiveSettings
from residency.site import Site
from residency.testing.cards import example_package
from residency.testing.fence import NoFenceError, enter, fenced, free_port
from residency.testing.graphs import model_bytes, threshold_graph
from residency.testing.orthanc import Orthanc, running_orthanc
from residency.testing.phantoms import mr_series
from residency.trust import Role, SigningKey, TrustedKey
from residency.volume import Volume, regular_grid

CHILD = REPOSITORY / "bench" / "children" / "archive_child.py"
RUNS = 5
Once = Callable[[], Mapping[str, float]]
SEVERAL = 16
"""Instances in one STOW request of dicomweb-client, which leaves it to its caller."""


def bench(quick: bool) -> Report:
    """Every door and peer, a few times each; medians."""
    slices, size, models = (30, 256, 20) if quick else (300, 512, 500)
    with tempfile.TemporaryDirectory(prefix="residency-bench-") as name:
        stage = Stage(Path(name), slices=slices, size=size, model_mb=3 if quick else 30, runs=1 if quick else RUNS)
        with running_orthanc(DicomThreadsCount=8, HttpThreadsCount=16) as orthanc:
            rows = [*_folder_rows(stage), *_web_rows(stage, orthanc), *_dimse_rows(stage, orthanc)]
            rows += _look_up_rows(stage, orthanc, models)
        rows += _sending_rows(stage)
    notes = (
        f"series: {slices} MR slices of {size} x {size} x 16 bit; model: one graph of {stage.model_mb} MB",
        "peak MB is that of the whole process, interpreter and imports included",
        "what DCMTK receives is written to disk and not read; what ours receives is handed on as bytes, and so is "
        "what it stores, read back and compared",
    )
    return Report("The doors to an archive", rows, _claims(rows, quick), notes)


class Stage:
    """What is stored and fetched: the files of a series, and a package; and one measurement."""

    def __init__(self, root: Path, *, slices: int, size: int, model_mb: int, runs: int) -> None:
        self.root, self.model_mb, self.runs = root, model_mb, runs
        self.files = root / "series"
        self.files.mkdir()
        self.series, self.study = _write_series(self.files, slices, size)
        self.count = slices
        self.package = root / "package"
        graph, parameters = _heavy_graph(model_mb)
        card = {"identity.family": "heavy", "parameters": parameters}
        write_folder(self.package, example_package(card, graph=graph))
        self.key, self.home = root / "key.pem", root / "home"
        key = SigningKey.new()
        self.key.write_bytes(key.pem())
        now = dt.datetime.now(dt.UTC)
        Site(self.home).add_key(TrustedKey(key.public, frozenset({Role.PUBLISHER}), "bench", now))

    def measure(self, task: str, archive: ArchiveSettings, **more: Any) -> dict[str, float]:
        """One process of the child."""
        described = json.loads(archive.model_dump_json(exclude_defaults=True))
        arguments = {
            "archive": described,
            "home": str(self.home),
            "files": str(self.files),
            "series": self.series,
            "study": self.study,
            "package": str(self.package),
            "key": str(self.key),
            "several": SEVERAL,
        } | more
        done = subprocess.run(
            [sys.executable, str(CHILD), task, json.dumps(arguments)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{task} at {archive.url} failed:\n{done.stdout}{done.stderr}")
        answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def row(self, what: str, door: str, once: Once, per: int = 0) -> dict[str, Any]:
        """The median of several measurements; `per` things were moved in each."""
        (row,) = self.rows(what, {door: once}, per)
        return row

    def rows(self, what: str, doors: Mapping[str, Once], per: int = 0) -> list[dict[str, Any]]:
        """One row a door, measured in turn, so that whatever else the machine does meets all of them alike."""
        found: dict[str, list[Mapping[str, float]]] = {door: [] for door in doors}
        for _ in range(self.runs):
            for door, once in doors.items():
                found[door].append(once())
        return [self._row(what, door, each, per) for door, each in found.items()]

    def _row(self, what: str, door: str, found: Sequence[Mapping[str, float]], per: int) -> dict[str, Any]:
        seconds = statistics.median(one["seconds"] for one in found)
        rate = f"{per / seconds:.0f}/s" if per else ""
        peak = max(one["peak_mb"] for one in found)
        return {"what": what, "door": door, "seconds": round(seconds, 3), "rate": rate, "peak MB": round(peak)}


def _write_series(folder: Path, slices: int, size: int) -> tuple[str, str]:
    """One file an instance, named by its UID; series and study UID."""
    noise = np.random.default_rng(0).integers(0, 4096, (slices, size, size)).astype(np.float32)
    memory = MemoryArchive()
    made = mr_series(Volume(noise, regular_grid(noise.shape, (1.0, 0.5, 0.5))))
    for data in made:
        memory.store([Instance(sop_uid(parse(data, pixels=False)), data)])
    (row,) = memory.find(Level.SERIES, Query())
    for instance in memory.instances(row.series_uid):
        (folder / instance.uid).write_bytes(instance.data)
    return row.series_uid, row.study_uid


def _heavy_graph(megabytes: int) -> tuple[bytes, int]:
    """A graph of random weights, which no compression makes smaller, and how many there are."""
    from onnx import TensorProto, helper, numpy_helper

    channels = int((megabytes * 1e6 / 4 / 27) ** 0.5)
    rng = np.random.default_rng(0)
    shapes = {"w0": (channels, 1, 1, 1, 1), "w1": (channels, channels, 3, 3, 3), "w2": (2, channels, 1, 1, 1)}
    weights = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), name) for name, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["a"], kernel_shape=[1, 1, 1]),
        helper.make_node("Conv", ["a", "w1"], ["b"], kernel_shape=[3, 3, 3], pads=[1] * 6),
        helper.make_node("Conv", ["b", "w2"], ["scores"], kernel_shape=[1, 1, 1]),
    ]
    graph = model_bytes(
        nodes,
        weights,
        helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, "s", "r", "c"]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 2, "s", "r", "c"]),
    )
    return graph, sum(int(np.prod(shape)) for shape in shapes.values())


def _folder_rows(stage: Stage) -> Iterator[dict[str, Any]]:
    archive = ArchiveSettings(url=str(stage.root / "archive"))

    def anew(task: str) -> Callable[[], dict[str, float]]:
        def once() -> dict[str, float]:
            shutil.rmtree(stage.root / "archive", ignore_errors=True)
            return stage.measure(task, archive)

        return once

    yield stage.row("store series", "folder", anew("store"), stage.count)
    yield stage.row("fetch series", "folder", lambda: stage.measure("fetch", archive), stage.count)
    yield stage.row("publish model", "folder", anew("publish"))
    yield stage.row("fetch model", "folder", lambda: stage.measure("fetch_model", archive))


def _web_rows(stage: Stage, orthanc: Orthanc) -> Iterator[dict[str, Any]]:
    archive, trusting = orthanc.by_web(), orthanc.by_web(read_back=False)

    def anew(task: str, described: ArchiveSettings) -> Callable[[], dict[str, float]]:
        def once() -> dict[str, float]:
            orthanc.clear()
            return stage.measure(task, described)

        return once

    storing = {
        "DICOMweb": anew("store", archive),
        "DICOMweb, no read-back": anew("store", trusting),
        "dicomweb-client": anew("peer_store", archive),
    }
    fetching = {
        "DICOMweb": lambda: stage.measure("fetch", archive),
        "dicomweb-client": lambda: stage.measure("peer_fetch", archive),
    }
    yield from stage.rows("store series", storing, stage.count)
    yield from stage.rows("fetch series", fetching, stage.count)
    yield stage.row("publish model", "DICOMweb", anew("publish", archive))
    yield stage.row("fetch model", "DICOMweb", lambda: stage.measure("fetch_model", archive))


def _dimse_rows(stage: Stage, orthanc: Orthanc) -> Iterator[dict[str, Any]]:
    archive, trusting = orthanc.by_dimse(), orthanc.by_dimse(read_back=False)
    moving = orthanc.by_dimse(retrieve="move")
    called = ["-aet", "RESIDENCY", "-aec", "ORTHANC"]
    where = ["127.0.0.1", str(orthanc.dicom_port)]

    def anew(task: str, described: ArchiveSettings) -> Callable[[], dict[str, float]]:
        def once() -> dict[str, float]:
            orthanc.clear()
            return stage.measure(task, described)

        return once

    def storescu() -> dict[str, float]:
        orthanc.clear()
        return _program(["storescu", *called, "-pdu", "131072", *where, "+sd", str(stage.files)])

    def getscu() -> dict[str, float]:
        with tempfile.TemporaryDirectory(dir=stage.root) as received:
            keys = ["-k", "QueryRetrieveLevel=SERIES", "-k", f"StudyInstanceUID={stage.study}"]
            keys += ["-k", f"SeriesInstanceUID={stage.series}"]
            return _program(["getscu", *called, "-pdu", "131072", "-S", *keys, "-od", received, *where])

    storing = {
        "DIMSE": anew("store", archive),
        "DIMSE, no read-back": anew("store", trusting),
        "storescu": storescu,
    }
    fetching = {
        "DIMSE, C-GET": lambda: stage.measure("fetch", archive),
        "DIMSE, C-MOVE": lambda: stage.measure("fetch", moving),
        "getscu": getscu,
    }
    yield from stage.rows("store series", storing, stage.count)
    yield from stage.rows("fetch series", fetching, stage.count)
    yield stage.row("publish model", "DIMSE", anew("publish", archive))
    yield stage.row("fetch model", "DIMSE, C-GET", lambda: stage.measure("fetch_model", archive))


def _look_up_rows(stage: Stage, orthanc: Orthanc, count: int) -> Iterator[dict[str, Any]]:
    """Models in Orthanc, found without and with what this site knows already."""
    orthanc.clear()
    with orthanc.rest() as client:
        for instance in _published(stage, count):
            client.post("/instances", content=instance.data).raise_for_status()
    for door, archive in (("DICOMweb", orthanc.by_web()), ("DIMSE", orthanc.by_dimse())):
        for what, indexed in (("cold", False), ("index", True)):
            if indexed:
                stage.measure("look_up", archive, indexed=True)  # fills the index

            def once(described: ArchiveSettings = archive, known: bool = indexed) -> dict[str, float]:
                found = stage.measure("look_up", described, indexed=known)
                if found["moved"] != count:
                    raise SystemExit(f"{count} models were published, {found['moved']:.0f} found")
                return found

            yield stage.row(f"look up {count} models, {what}", door, once)
        shutil.rmtree(stage.home / "cache", ignore_errors=True)


def _published(stage: Stage, count: int) -> Iterator[Instance]:
    """Instances of small signed models, as publishing leaves them in an archive."""
    key, memory = SigningKey.from_pem(stage.key.read_bytes()), MemoryArchive()
    for number in range(count):
        publish(memory, example_package({"identity.family": f"family-{number}"}, graph=threshold_graph()), key)
    for row in memory.find(Level.SERIES, Query()):
        yield from memory.instances(row.series_uid)


def _sending_rows(stage: Stage) -> Iterator[dict[str, Any]]:
    """Nothing but sending, to a receiver that does nothing but receive."""
    with _storescp(stage) as port:
        described = ArchiveSettings(url=f"dimse://127.0.0.1:{port}/STORESCP", read_back=False)
        where = ["-aec", "STORESCP", "-pdu", "131072", "127.0.0.1", str(port)]
        program = ["storescu", *where, "+sd", str(stage.files)]
        sending = {"DIMSE": lambda: stage.measure("store", described), "storescu": lambda: _program(program)}
        yield from stage.rows("send series to storescp", sending, stage.count)


@contextmanager
def _storescp(stage: Stage) -> Iterator[int]:
    """DCMTK's receiver without delay, one process an association, which throws away what it receives."""
    port = free_port()
    command = [
        "env",
        "TCP_NODELAY=1",
        "storescp",
        "--fork",
        "--ignore",
        "-pdu",
        "131072",
        "-aet",
        "STORESCP",
        str(port),
    ]
    with fenced(command, doors=[port], log=stage.root / "storescp.log") as doors:
        end = time.monotonic() + 20
        while subprocess.run(["echoscu", "127.0.0.1", str(doors[port])], capture_output=True, check=False).returncode:
            if time.monotonic() > end:
                raise SystemExit("storescp did not start")
            time.sleep(0.1)
        yield doors[port]


def _program(command: Sequence[str]) -> dict[str, float]:
    """Seconds of a program of others, and its peak memory, which is looked at while it runs."""
    environment = os.environ | {"TCP_NODELAY": "1"}
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        with suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
            peak = max(peak, next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")))
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
    seconds = time.perf_counter() - begun
    if process.returncode:
        raise SystemExit(f"{command[0]} failed with status {process.returncode}")
    return {"seconds": seconds, "peak_mb": peak / 1024}


def _claims(rows: Sequence[Mapping[str, Any]], quick: bool) -> list[Claim]:
    seconds = {(row["what"], row["door"]): float(row["seconds"]) for row in rows}
    rate = {(row["what"], row["door"]): row["rate"] for row in rows}
    found = []
    for what in ("store series", "fetch series"):
        door = "DICOMweb, no read-back" if what == "store series" else "DICOMweb"
        ratio = seconds[what, door] / seconds[what, "dicomweb-client"]
        said = f"{what} by {door}, time against dicomweb-client"
        found.append(Claim(said, "dicomweb-client 0.61", "at most 1", f"{ratio:.2f}", ratio <= 1, not quick))
    sent = float(rate["send series to storescp", "DIMSE"].removesuffix("/s"))
    said = "C-STORE to a no-delay storescp, instances of 0.5 MB a second, all associations together"
    found.append(Claim(said, "specification", "at least 150", f"{sent:.0f}", sent >= 150, not quick))
    return found


if __name__ == "__main__":
    try:
        enter()
    except NoFenceError as error:
        raise SystemExit(f"bench/archive.py: {error}") from None
    main(bench, "Time the doors to an archive beside their peers.")
