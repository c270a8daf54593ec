"""The hippocampus walk, step by step, and the look-up of models among 10, 100 and 1,000.

    python bench/walk.py [--quick] [--json FILE]

Each walk is a process of its own on a fresh copy of an archive in which the shipped model is published and admitted,
with a warm model cache and no result yet. The two studies are the real ones of the test images where these are there,
else the study made from the MNI152 template, left and right.
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
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contract import REPOSITORY, Claim, Report, main
from residency.archive import Instance, Level, Query
from residency.archives.folder import FolderArchive
from residency.archives.memory import MemoryArchive
from residency.assemble import label_rules, open_house, open_loose_files, open_site
from residency.labels import Side
from residency.models import find_models, publish, read_folder
from residency.selection import Candidate, CandidateTable, Policy, select, shipped_rules
from residency.settings import Settings
from residency.testing.cards import example_package
from residency.testing.graphs import threshold_graph
from residency.testing.template import template_study
from residency.trust import Role, SigningKey, TrustedKey

SHARED = Path(os.environ.get("RESIDENCY_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
STEPS = ("open", "choose", "read", "model", "compile", "infer", "measure", "write", "store")


def bench(quick: bool) -> Report:
    """Walks (3, or 9 in full) and look-ups among 10, 100 and, in full, 1,000 models."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        studies = _studies(root)
        settings = _ward(root / "site", studies[0])
        walks = [_walk(settings, root / f"run{k}", studies) for k in range(3 if quick else 9)]
        rows = _step_rows(walks)
        for count in (10, 100) if quick else (10, 100, 1000):
            rows += _look_up(root / f"models{count}", count, studies[0])
    whole = statistics.median(w["whole"] for w in walks)
    aim = f"interpreter start to stored result: the aim beyond the goal is 3 s, measured {whole:.2f} s"
    return Report("The hippocampus walk", rows, _claims(walks), [aim])


def _studies(root: Path) -> tuple[Path, Path]:
    """Two folders with a study each."""
    folders = root / "one", root / "two"
    for number, (folder, side) in enumerate(zip(folders, (Side.LEFT, Side.RIGHT), strict=True), start=1):
        packed = SHARED / "dicom" / f"hippocampus_study{number}.zip"
        if packed.exists():
            zipfile.ZipFile(packed).extractall(folder)
            continue
        folder.mkdir()
        for index, instance in enumerate(template_study(side)):
            (folder / f"{index}.dcm").write_bytes(instance.data)
    return folders


def _ward(root: Path, study: Path) -> Settings:
    """A site with the shipped model published, trusted and admitted, and the label rule approved."""
    settings = Settings(home=root / "home", archive=str(root / "archive"))
    archive, site, key, now = FolderArchive(root / "archive"), open_site(settings), SigningKey.new(), _now()
    publish(archive, read_folder(REPOSITORY / "models" / "hippocampus"), key)
    site.add_key(TrustedKey(key.public, frozenset({Role.PUBLISHER}), "bench", now))
    for rule in shipped_rules():
        site.approve_rules(rule.digest, by="bench", now=now)
    images = open_loose_files(study)
    house = open_house(settings, images=images, models=archive)
    for model in house.models.values():
        house.package(model)
    return settings


def _walk(settings: Settings, copy: Path, studies: tuple[Path, Path]) -> dict[str, Any]:
    """One process on copies of archive and home, as its JSON answer."""
    shutil.copytree(Path(settings.archive or "").parent, copy)
    environment = os.environ | {"RESIDENCY_ARCHIVE": str(copy / "archive"), "RESIDENCY_HOME": str(copy / "home")}
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "bench" / "children" / "walk_child.py"), *map(str, studies)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"a walk failed:\n{done.stdout}{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _step_rows(walks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = [
        _row("interpreter start", [w["interpreter"] for w in walks], []),
        _row("imports", [w["imports"] for w in walks], []),
    ]
    rows += [
        _row(step, [w["first"].get(step, 0.0) for w in walks], [w["warm"].get(step, 0.0) for w in walks])
        for step in STEPS
    ]
    rows.append(_row("interpreter start to stored result", [w["whole"] for w in walks], []))
    rows.append(_row("all but inference", [], [_but_inference(w["warm"]) for w in walks]))
    return rows


def _row(step: str, new: list[float], warm: list[float]) -> dict[str, Any]:
    def middle(values: list[float]) -> float | str:
        return round(statistics.median(values), 4) if values else ""

    return {"step": step, "new process s": middle(new), "warm process s": middle(warm)}


def _but_inference(steps: Mapping[str, float]) -> float:
    return sum(seconds for step, seconds in steps.items() if step != "infer")


def _look_up(root: Path, count: int, study: Path) -> list[dict[str, Any]]:
    """Find `count` published models, without and with the local index, and choose among them for one study."""
    settings = Settings(home=root / "home", archive=str(root / "archive"))
    site, key = open_site(settings), SigningKey.new()
    site.add_key(TrustedKey(key.public, frozenset({Role.PUBLISHER}), "bench", _now()))
    archive = FolderArchive(root / "archive")
    archive.store(_published(count, key))
    seconds = {}
    for name in ("look-up, no index", "look-up, index"):
        started = time.perf_counter()
        library = find_models(archive, site.trust(), now=_now(), index=site.index, statements=site.statements())
        seconds[name] = time.perf_counter() - started
    candidates = [Candidate(m.card, m.standing) for m in library.models if m.card]
    if len(candidates) != count:
        raise SystemExit(f"{count} models were published, {len(candidates)} found")
    from residency.dicom.labels import read_labels

    images = open_loose_files(study)
    rows = images.find(Level.SERIES, Query())
    labels = [read_labels(h.data for h in images.headers(row.series_uid)) for row in rows]
    started = time.perf_counter()
    table = CandidateTable.of(candidates)
    seconds["compile gates"] = time.perf_counter() - started
    started = time.perf_counter()
    select(labels, table, rules=label_rules(site), policy=Policy(), content=lambda _uid, _condition: None)
    seconds[f"select, {len(labels)} series"] = time.perf_counter() - started
    return [
        {"step": f"{name}, {count} models", "new process s": "", "warm process s": s} for name, s in seconds.items()
    ]


def _published(count: int, key: SigningKey) -> list[Instance]:
    """Instances of `count` small signed models, as publishing leaves them in an archive."""
    memory, graph = MemoryArchive(), threshold_graph()
    for number in range(count):
        package = example_package({"identity.family": f"family-{number}"}, graph=graph)
        publish(memory, package, key)
    series = {row.series_uid for row in memory.find(Level.SERIES, Query())}
    return [instance for uid in sorted(series) for instance in memory.instances(uid)]


def _claims(walks: list[dict[str, Any]]) -> list[Claim]:
    whole = statistics.median(w["whole"] for w in walks)
    warm = statistics.median(_but_inference(w["warm"]) for w in walks)
    source = "specification"
    return [
        Claim("interpreter start to stored result, warm model cache", source, "under 6 s", f"{whole:.2f} s", whole < 6),
        Claim("warm process, everything but inference", source, "under 1 s", f"{warm:.2f} s", warm < 1),
    ]


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


if __name__ == "__main__":
    main(bench, "Time the hippocampus walk and the look-up of models.")
