"""`residency plan`: look at a data set, and propose a training for it, with the reason of every choice."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from residency.cli.library import JsonOption
from residency.errors import DependencyError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from residency.datasets.fingerprint import Fingerprint
    from residency.datasets.layout import Layout
    from residency.train.planning.plan import Plan

TRAINING_FILE, PLAN_FILE, TABLE_FILE = "train.yaml", "plan.json", "cases.csv"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("plan")(plan)


def plan(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of the data set.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where the plan goes.  [default: NAME-plan]")
    ] = None,
    memory: Annotated[float, typer.Option("--memory", metavar="GIB", help="Most memory that training may take.")] = 8.0,
    latency: Annotated[
        float, typer.Option("--latency", metavar="SECONDS", help="Most time for a case of median size, on this CPU.")
    ] = 10.0,
    hours: Annotated[float, typer.Option("--hours", metavar="H", help="Time for the training.")] = 2.0,
    name: Annotated[str | None, typer.Option("--name", help="Of the network.  [default: the folder's name]")] = None,
    modality: Annotated[
        str | None,
        typer.Option("--modality", help="Of all images, such as MR or CT, where the folder does not say it."),
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Names of the labels 0, 1, ..., with commas: 'background,liver'.")
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image",
            metavar="PATTERN",
            help="Where the images lie: '{case}/t1.nii.gz'. Of several a case say each: 't1={case}/t1.nii.gz'.",
        ),
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="PATTERN", help="Where the references lie, likewise.")
    ] = None,
    person: Annotated[
        str | None, typer.Option("--person", metavar="COLUMN", help="Column of the table that says whose a case is.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="COLUMN", help="Column of the table that says which cases are to train."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="COLUMN", help="Column of the table that holds a class to learn.")
    ] = None,
    merge: Annotated[
        list[str] | None,
        typer.Option(
            "--merge",
            metavar="NAME=VALUES",
            help="Label values that mean a class: 'kidney=2,3', or 'other=rest'.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=256, help="To train with.  [default: those of this machine]")
    ] = None,
    measure_pace: Annotated[
        bool,
        typer.Option("--measure/--no-measure", help="Time this machine for a second, or assume a plain CPU."),
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Write over an older plan in the folder.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Show every choice, not only the main ones.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at a data set and write a training file for it: what is chosen, and why.

    DATA is a folder with a table cases.csv, a raw folder of nnU-Net, or one with the subfolders images and labels.
    Several images a case (CASE_0000, CASE_0001) become the channels of the net.
    Nothing in it is changed. The folder of the plan gets train.yaml (every choice with its reason), plan.json, and a
    table of the cases where there is none. Then: residency train FOLDER

    Example: residency plan scans --modality MR --hours 2 --latency 5
    """
    from residency.datasets.fingerprint import measure
    from residency.datasets.layout import Hints
    from residency.datasets.layouts import layout_of

    _need_torch()
    called = _name(name or data.resolve().name)
    folder = out or Path(f"{called}-plan")
    _check_free(folder, force)
    if min(memory, latency, hours) <= 0:
        raise UsageError("--memory, --latency and --hours are above 0")
    names = tuple(one.strip() for one in classes.split(",")) if classes else ()
    merged = _merged(merge or (), names)
    names = ("background", *merged) if merged else names
    said = _images(image or ())
    layout = layout_of(data, Hints(said, reference, person, split, target, names, modality and modality.upper()))
    if merged and layout.data["kind"] != "table":
        raise UsageError("--merge is for tables and plain folders: a folder of nnU-Net says its classes itself")
    if merged:
        layout = replace(layout, data={**layout.data, "merge": merged})
    table = _table_of(layout, folder)
    from rich.console import Console

    console = Console(stderr=as_json)
    with _progress(console) as watch:
        found = measure(
            _cases(layout, table),
            classes=layout.classes or None,
            modalities=layout.modalities,
            task=layout.target,
            report=watch,
        )
    made = _planned(called, found, layout, folder, (memory, latency, hours, threads or _processors()), measure_pace)
    _write(made, folder)
    if as_json:
        typer.echo(_json(made), nl=False)
    else:
        _show(made, folder, console, every=every)


def _images(said: Sequence[str]) -> dict[str, str]:
    """Name of an image -> pattern; one that has no name of its own is alone."""
    import re

    from residency.datasets.case import SINGLE

    named = [re.fullmatch(r"(?:([A-Za-z0-9][A-Za-z0-9_.-]*)=)?(.+)", one) for one in said]
    made = {found[1] or SINGLE: found[2] for found in named if found is not None}
    if len(made) < len(said) or (SINGLE in made and len(made) > 1):
        raise UsageError("several images a case have names, each its own: --image t1='{case}/t1.nii.gz' --image ...")
    return made


def _merged(said: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Class -> label values, or "rest"."""
    made: dict[str, Any] = {}
    for one in said:
        name, _, values = one.partition("=")
        numbers = values.split(",")
        if not name.strip() or not (values == "rest" or all(number.strip().isdigit() for number in numbers)):
            raise UsageError(f"--merge '{one}' is not of the form NAME=1,5 or NAME=rest")
        made[name.strip()] = values if values == "rest" else [int(number) for number in numbers]
    if made and names:
        raise UsageError("--merge names the classes; leave out --classes")
    return made


def _need_torch() -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise DependencyError("planning counts what nets cost, which needs torch; pip install '.[train]'")


def _name(text: str) -> str:
    import re

    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:64].strip("-")
    if not plain:
        raise UsageError(f"'{text}' makes no name for a network; give one of letters and digits with --name")
    return plain


def _check_free(folder: Path, force: bool) -> None:
    there = [name for name in (TRAINING_FILE, PLAN_FILE) if (folder / name).exists()]
    if there and not force:
        raise UsageError(f"{folder / there[0]} is there already; name another folder with --out, or say --force")
    run = folder / "run" / "checkpoint.pt"
    if there and run.exists():
        raise UsageError(f"{run} belongs to the older plan, and would not go with a new one; name another --out")


def _table_of(layout: Layout, folder: Path) -> Path | None:
    """The table of a plan that needs one of its own, written: it is what the cases are then read from."""
    if not layout.table:
        return None
    from residency.datasets.layout import table_text
    from residency.train.written import write_whole

    write_whole(folder / TABLE_FILE, table_text(layout.table).encode())
    return folder / TABLE_FILE


def _cases(layout: Layout, table: Path | None) -> Any:
    """The cases as a training will read them, of the training split alone."""
    from residency.datasets import Table, read_cases
    from residency.datasets.merged import classes_of
    from residency.datasets.nnunet import read_nnunet

    said = layout.data
    if said["kind"] == "nnunet":
        return read_nnunet(layout.folder, layout.classes, pattern=said.get("person_pattern")).cases
    usual = Table()
    tasks = {layout.target: layout.classes} if layout.target else {}
    try:
        values = classes_of(said["merge"], layout.classes) if "merge" in said else None
    except ValueError as error:
        raise UsageError(f"--merge: {error}") from None
    described = Table(
        os.path.relpath(table.resolve(), layout.folder.resolve()) if table else usual.file,
        said.get("case_column", usual.name),
        said.get("person_column", usual.person),
        said.get("split_column", usual.split),
        said.get("image", usual.image),
        said["reference"],
        said.get("images", {}),
        tasks,
        values=values,
    )
    return [case for case in read_cases(layout.folder, described) if case.split == said.get("train", "train")]


def _planned(
    called: str,
    found: Fingerprint,
    layout: Layout,
    folder: Path,
    limits: tuple[float, float, float, int],
    measure_pace: bool,
) -> Plan:
    from residency.train.planning.cost import ASSUMED, measured_machine
    from residency.train.planning.plan import make_plan
    from residency.train.planning.values import Limits
    from residency.train.report import processor

    asked = Limits(*limits)
    machine = measured_machine(asked.threads, processor()) if measure_pace else ASSUMED
    return make_plan(called, found, layout, folder, asked, machine)


def _write(made: Plan, folder: Path) -> None:
    """All files, the training file last: where it is, the plan is whole."""
    from residency.train.config import read_config
    from residency.train.planning.written import plan_json, training_file
    from residency.train.written import write_whole

    command = shlex.join(["residency", *sys.argv[1:]]) if "plan" in sys.argv else "residency plan"
    write_whole(folder / PLAN_FILE, plan_json(made).encode())
    write_whole(folder / TRAINING_FILE, training_file(made, command).encode())
    read_config(folder / TRAINING_FILE)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _progress(console: Console) -> Any:
    """A bar while cases are read; nothing where nobody looks."""
    from contextlib import contextmanager

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    @contextmanager
    def shown() -> Any:
        columns = (TextColumn("reading cases"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("reading", total=None)
            yield lambda done, of: bar.update(task, completed=done, total=of)

    return shown()


def _json(made: Plan) -> str:
    from residency.train.planning.written import plan_json

    told = json.loads(plan_json(made))
    del told["fingerprint"]["cases"]  # they stand in plan.json
    return json.dumps(told | {"training_file": made.values}, indent=1) + "\n"


def _show(made: Plan, folder: Path, console: Console, *, every: bool) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    found, estimates = made.found, made.estimates
    console.print(
        f"{len(found.cases)} cases of {found.persons} persons, {found.task}, {len(found.classes)} classes: "
        f"{', '.join(found.classes[:8])}",
        highlight=False,
        markup=False,
    )
    shown = [choice for choice in made.choices if every or _is_main(choice.key)]
    columns = (Column("Choice", no_wrap=True), Column("Value", overflow="fold"), Column("Why", overflow="fold"))
    table = Table(*columns, box=None)
    for choice in shown:
        table.add_row(*(Text(text) for text in (choice.key, _told(choice.value), choice.why)))
    console.print(table)
    if len(shown) < len(made.choices):
        console.print(
            f"{len(made.choices) - len(shown)} more choices stand with their reasons in {folder / TRAINING_FILE}; "
            "--all shows them here.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    for warning in made.warnings:
        console.print(f"Look at this: {warning}", highlight=False, markup=False, soft_wrap=True, style="yellow")
    console.print(
        f"Estimates ({estimates['rates']}): {estimates['training_hours']:.2g} h of training, "
        f"{estimates['training_memory_gib']:.1f} GiB of memory, {estimates['case_seconds']:.2g} s for a case "
        f"({estimates['case_windows']} windows).",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    console.print(f"Wrote {folder / TRAINING_FILE}. Next: residency train {folder}", highlight=False, markup=False)


_MAIN = (
    *("data.classes", "data.person_column", "data.validation_share", "recipe.", "net.", "patch", "loss"),
    *("schedule.steps", "schedule.batch"),
)
"""Beginnings of the keys that decide what a person may want to change first."""


def _is_main(key: str) -> bool:
    return key.startswith(_MAIN)


def _told(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
