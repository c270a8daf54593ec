"""One process of bench/archive.py: does one thing with one archive and prints, as JSON, seconds and peak memory.

    python bench/children/archive_child.py TASK ARGUMENTS_AS_JSON

Imports, connections and what has to be prepared stand outside the time; peak memory is that of the whole process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

Arguments = Mapping[str, Any]
Work = Callable[[], int]
"""What is timed; how many bytes it moved."""


def store(arguments: Arguments) -> Work:
    """A folder of files into an archive, read one by one."""
    archive = _opened(arguments)
    from residency.archive import Instance

    def instances() -> Iterator[Instance]:
        for file in sorted(Path(arguments["files"]).iterdir()):
            yield Instance(file.name, file.read_bytes())

    def work() -> int:
        archive.store(instances())
        return sum(file.stat().st_size for file in Path(arguments["files"]).iterdir())

    return work


def fetch(arguments: Arguments) -> Work:
    """Every instance of a series, one after the other."""
    archive = _opened(arguments)
    return lambda: sum(len(instance.data) for instance in archive.instances(arguments["series"]))


def publish(arguments: Arguments) -> Work:
    """A package, with everything that publishing does: ask, store, read back, compare."""
    from residency.models import publish as publish_package
    from residency.models import read_folder
    from residency.trust import SigningKey

    archive, package = _opened(arguments), read_folder(Path(arguments["package"]))
    key = SigningKey.from_pem(Path(arguments["key"]).read_bytes())

    def work() -> int:
        publish_package(archive, package, key)
        return sum(len(payload.data) for payload in package.payloads)

    return work


def fetch_model(arguments: Arguments) -> Work:
    """Find the one model that there is, fetch it, verify every digest."""
    library = _library(arguments)

    def work() -> int:
        archive, models, trust = library()
        from residency.models import fetch as fetch_package

        return sum(len(payload.data) for payload in fetch_package(archive, models[0], trust).payloads)

    return work


def look_up(arguments: Arguments) -> Work:
    """Every model of the archive with its standing; the local index answers for those that it knows."""
    library = _library(arguments)

    def work() -> int:
        _archive, models, _trust = library()
        return len(models)

    return work


def peer_store(arguments: Arguments) -> Work:
    """dicomweb-client: a folder of files, as many a request as ours puts into one."""
    import pydicom

    client = _peer(arguments)
    files = sorted(Path(arguments["files"]).iterdir())
    several = int(arguments["several"])

    def work() -> int:
        for begin in range(0, len(files), several):
            client.store_instances([pydicom.dcmread(file) for file in files[begin : begin + several]])
        return sum(file.stat().st_size for file in files)

    return work


def peer_fetch(arguments: Arguments) -> Work:
    """dicomweb-client: every instance of a series, streamed."""
    client = _peer(arguments)
    any_syntax = (("application/dicom", "*"),)

    def work() -> int:
        found = client.iter_series(arguments["study"], arguments["series"], media_types=any_syntax)
        return sum(len(dataset.get("PixelData", b"")) for dataset in found)

    return work


def _opened(arguments: Arguments) -> Any:
    from residency.assemble import open_archive
    from residency.errors import RejectedError
    from residency.settings import ArchiveSettings, Settings

    described = ArchiveSettings.model_validate(arguments["archive"])
    archive = open_archive("bench", Settings(home=Path(arguments["home"]), archives={"bench": described}))
    with suppress(RejectedError):  # of a destination that only stores
        list(archive.headers("1.2.3.4.5"))  # what is imported at the first request is not what is measured
    return archive


def _library(arguments: Arguments) -> Callable[[], Any]:
    import datetime as dt

    from residency.models import find_models
    from residency.site import Site

    archive, site = _opened(arguments), Site(Path(arguments["home"]))
    trust, index = site.trust(), site.index if arguments.get("indexed") else None

    def find() -> Any:
        return archive, find_models(archive, trust, now=dt.datetime.now(dt.UTC), index=index).models, trust

    return find


def _peer(arguments: Arguments) -> Any:
    from dicomweb_client.api import DICOMwebClient
    from dicomweb_client.session_utils import create_session_from_user_pass

    password = Path(arguments["archive"]["password_file"]).read_text(encoding="ascii").strip()
    session = create_session_from_user_pass(arguments["archive"]["user"], password)
    session.trust_env = False
    client = DICOMwebClient(arguments["archive"]["url"], session=session)
    client.search_for_studies(limit=1)
    return client


TASKS = {task.__name__: task for task in (store, fetch, publish, fetch_model, look_up, peer_store, peer_fetch)}


def peak_mb() -> float:
    """Most memory that this program held at once; getrusage would count what its parent held before it began."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    work = TASKS[sys.argv[1]](json.loads(sys.argv[2]))
    begun = time.perf_counter()
    moved = work()
    seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "moved": moved, "peak_mb": peak_mb()}))
