"""`residency train` and `residency export-graph`: from a training file to weights, and on to one ONNX file."""

from __future__ import annotations

import atexit
import json
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from residency.cli.library import JsonOption
from residency.cli.lines import folded
from residency.errors import DependencyError, UsageError

if TYPE_CHECKING:
    from residency.archive import Archive
    from residency.train.config import TrainingConfig
    from residency.train.progress import Progress as Step
    from residency.train.progress import Tell
    from residency.train.state import Outcome

_LINE_EVERY_SECONDS = 30.0

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The training file.", show_default=False)]
DataFolder = Annotated[
    Path | None, typer.Option("--data", help="Folder of the cases, in place of the one that the training file names.")
]
RunFolder = Annotated[
    Path | None, typer.Option("--run", help="Folder of checkpoints.  [default: runs/NAME of the training file]")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command("train")(train)
    app.command("export-graph")(export_graph)


def train(
    config_file: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG.yaml|PLAN", help="The training file, or the folder of a plan.", show_default=False
        ),
    ],
    data: DataFolder = None,
    run: RunFolder = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew where a run was begun before.")] = False,
    answers: Annotated[
        Path | None,
        typer.Option(
            "--answers", metavar="FILE", help="Of a plan: card fields that only a person knows, as in card.yaml."
        ),
    ] = None,
    as_json: JsonOption = False,
    processes: Annotated[
        int,
        typer.Option("--processes", min=1, max=1024, help="Divide each batch among so many, one a GPU if there are."),
    ] = 1,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Print every key with its value, defaults too, and do nothing else.")
    ] = False,
) -> None:
    """Train a network, or go on with a run that was stopped or killed; the result is the same.

    Ctrl-C stops after the step at hand and keeps everything; the same command goes on from there.

    Every key of a training file, with an example: docs/reference/training-file.md.

    First it prints what the training file says. The run folder keeps that with every key that the file leaves out,
    versions, and the digest of the data (config.json).

    The folder of a plan (residency plan) is run through: training, validation with its report, graph, card and, once
    the card is whole, the package. Example: residency train scans-plan --answers answers.yaml
    """
    if show_config:
        _show_config(config_file, as_json=as_json)
        return
    if config_file.is_dir():
        from residency.cli.through import train_plan

        if run is not None:
            raise UsageError("--run goes with a training file: a plan keeps its run in its own folder")
        train_plan(config_file, data, answers, fresh=fresh, as_json=as_json)
        return
    if answers is not None:
        raise UsageError("--answers goes with the folder of a plan")
    config, folder = settled(config_file, data, run)
    from residency.train.progress import started

    console = Console(stderr=as_json, quiet=started())
    same = ["train", str(config_file), *(["--data", str(data)] if data else []), "--run", str(folder)]
    same += ["--fresh"] if fresh else []
    outcome = trained(config, folder, console, fresh=fresh, others=(processes, same))
    if as_json:
        told = {"finished": outcome.finished, "steps": outcome.step, "best": outcome.best, "best_at": outcome.best_at}
        typer.echo(json.dumps(told | {"seconds": outcome.seconds, "weights": str(folder / "best.pt")}, indent=1))
    minutes = f"{outcome.seconds / 60:.1f} min of work"
    if not outcome.finished:
        console.print(
            f"Stopped after step {outcome.step} of {config.schedule.steps}, {minutes}. To go on, say it again."
        )
        raise typer.Exit(130)
    console.print(
        f"Done: {outcome.step} steps, {minutes}; best {_figure(config)} on held-out persons {outcome.best:.4f} after "
        f"step {outcome.best_at}. Weights in {folder / 'best.pt'}; next: residency validate "
        f"{config_file}{_task(config)}"
    )


def _task(config: TrainingConfig) -> str:
    """Of several columns of classes, which are judged one at a time, the option that names the first."""
    several = list(config.data.tasks) if len(config.data.tasks) > 1 else []
    return f" --task {shlex.quote(several[0])}" if several else ""


def trained(
    config: TrainingConfig,
    folder: Path,
    console: Console,
    *,
    fresh: bool,
    others: tuple[int, Sequence[str]] = (1, ()),
) -> Outcome:
    """Train, or go on training, in a run folder, with what a person wants to see of it.

    others  how many processes train together, and the command that starts each of the others
    """
    from residency.train.sources import division
    from residency.train.together import remarks

    notes = (*remarks(config), *division(config).notes)
    _say_briefly(console, config, folder)  # before torch is imported, which takes seconds
    from residency.train.device import find_device
    from residency.train.launch import team_of
    from residency.train.run import run_training

    notes = (*notes, *find_device(config.device).notes)
    _remark(console, notes)
    with (
        stop_on_interrupt() as stopped,
        team_of(*others) as team,
        _shown(console, config.schedule.steps, _figure(config)) as (show, tell),
    ):
        return run_training(config, folder, show, stopped, team, tell, fresh=fresh)


def _show_config(file: Path, *, as_json: bool) -> None:
    from residency.train.brief import whole
    from residency.train.config import read_config
    from residency.train.through import PLAN_TRAINING

    config = read_config(file / PLAN_TRAINING if file.is_dir() else file)
    typer.echo(json.dumps(config.model_dump(mode="json"), indent=1) if as_json else whole(config), nl=as_json)


def _say_briefly(console: Console, config: TrainingConfig, folder: Path) -> None:
    """What the training file sets, and where all else stands."""
    from residency.train.brief import brief
    from residency.train.differing import SETTINGS

    lines = [f"{config.name}, into {folder}; every other key has its default ({folder / SETTINGS} has all):"]
    lines += [piece for line in brief(config) for piece in folded(line, 2, console.width)]
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def export_graph(
    config_file: ConfigFile,
    data: DataFolder = None,
    run: RunFolder = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to.  [default: that of the training file]")
    ] = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Export a run that has not ended.")] = False,
    folds: Annotated[
        bool,
        typer.Option("--folds", help="Export all networks of a cross-validation as one: the mean of what they say."),
    ] = False,
) -> None:
    """Write a run's best weights as graph.onnx, proven on two engines, and training.json for the card.

    With --folds, --run is the folder of the cross-validation, by default runs/NAME-folds.
    """
    if folds and unfinished:
        raise UsageError("--unfinished is of one run; all folds are finished before they are exported together")
    config, folder = settled(config_file, data, run)
    from residency.train.ensemble import export_folds
    from residency.train.run import export_run

    place, console = out or config_file.parent, Console()
    with working(console) as tell:
        if folds:
            made = export_folds(config, run or of_folds(folder), place, tell)
        else:
            made = export_run(config, folder, place, tell, unfinished=unfinished)
    for parity in made.parities:
        console.print(f"Parity holds: {parity}", highlight=False)
    if (volumes := made.answer.volumes) is not None:
        console.print(
            f"As shipped: mean Dice on held-out persons {volumes.mean_dice:.4f}; their volumes were "
            f"{volumes.volume_ratio:.3f} of the references' before a shift of {volumes.background_shift:.3f}",
            highlight=False,
        )
    for name, figure in made.answer.figures.items():
        console.print(f"As shipped: {name} on held-out persons {figure:.4f}", highlight=False)
    size = made.graph.stat().st_size / 1e6
    console.print(f"Wrote {made.graph} ({size:.2f} MB, sha256 {made.digest}) and {made.report}", soft_wrap=True)


@contextmanager
def working(console: Console) -> Iterator[Tell]:
    """A bar with the time left for each part of the work on a terminal; elsewhere a line as each begins."""
    if not console.is_terminal:
        yield _begun(console)
        return
    with _bars(console) as bars:
        yield _parts(bars)


def _begun(console: Console) -> Tell:
    return lambda what, done, _: None if done else console.print(f"{what} ...", highlight=False, markup=False)


def _bars(console: Console) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), *columns, console=console)


def _parts(bars: Progress) -> Tell:
    """A bar more for each part of the work."""
    tasks: dict[str, TaskID] = {}

    def tell(what: str, done: int, of: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=of)
        bars.update(tasks[what], completed=done)

    return tell


def settled(config_file: Path, data: Path | None, run: Path | None) -> tuple[TrainingConfig, Path]:
    """The checked training file and its run folder. Only then is it asked whether torch is there."""
    config = with_data(config_file, data)
    missing = [name for name in ("torch", "monai", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"training needs {', '.join(missing)}; in the checkout of Residency: pip install '.[train]'"
        )
    return config, run or Path("runs") / config.name


def with_data(config_file: Path, data: Path | None = None) -> TrainingConfig:
    """The checked training file, its data elsewhere if that is said, its archive opened. Needs no torch."""
    from residency.train.config import read_config

    config = read_config(config_file)
    if data is not None:
        if not data.is_dir():
            raise UsageError(f"--data {data} is not a folder")
        if config.data.kind == "archive":
            raise UsageError("--data names a folder of cases, and this training file takes them from an archive")
        config = config.model_copy(update={"data": config.data.model_copy(update={"folder": data.resolve()})})
    if config.data.kind == "archive":
        config = config.model_copy(update={"data": config.data.within(_archive(config.data.archive))})
    return config


def of_folds(run: Path) -> Path:
    """Where the folds of a cross-validation lie, unless somebody says: beside the run of the same training file."""
    return run.with_name(f"{run.name}-folds")


def _archive(named: str | None) -> Archive:
    """Open until the command ends."""
    from residency.assemble import Role, open_archive
    from residency.settings import read_settings

    archive = open_archive(named, read_settings().settings, role=Role.IMAGES, create=False)
    atexit.register(archive.close)
    return archive


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C (or a polite kill) asks for the end of the step at hand; the second cancels the command."""
    asked = threading.Event()
    usual = signal.getsignal(signal.SIGINT)

    def ask(number: int, _frame: object) -> None:
        asked.set()
        os.write(2, b"\nStopping after what is at hand; once more stops at once and may lose it.\n")
        signal.signal(number, usual if callable(usual) else signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _remark(console: Console, notes: Iterable[str]) -> None:
    for note in notes:
        console.print(f"Note: {note}", soft_wrap=True, highlight=False, markup=False)


@contextmanager
def _shown(console: Console, steps: int, figure: str) -> Iterator[tuple[Callable[[Step], None], Tell]]:
    """For the steps, and for what comes before them: bars with the time left on a terminal, elsewhere lines."""
    if not console.is_terminal:
        yield _lines(console, steps, figure), _begun(console)
        return
    with _bars(console) as bars:
        tasks: list[TaskID] = []

        def show(done: Step) -> None:
            if not tasks:  # not before the first step, so that the time left is of steps alone
                tasks.append(bars.add_task("training", total=steps))
            _remark(bars.console, done.notes)
            bars.update(tasks[0], completed=done.step, description=_now(done))
            if done.figure is not None:
                bars.console.print(_validation(done, figure))

        yield show, _parts(bars)


def _lines(console: Console, steps: int, figure: str) -> Callable[[Step], None]:
    last = time.monotonic()

    def show(done: Step) -> None:
        nonlocal last
        _remark(console, done.notes)
        if done.figure is not None:
            console.print(_validation(done, figure))
        elif time.monotonic() - last >= _LINE_EVERY_SECONDS:
            console.print(f"step {done.step} of {steps}: {_now(done)}, {done.seconds_left / 60:.0f} min left")
            last = time.monotonic()

    return show


def _now(done: Step) -> str:
    waiting = f", {100 * done.waiting_share:.0f} % waiting for crops" if done.waiting_share >= 0.005 else ""
    return f"loss {done.loss:.3f}, {done.crops_second:.1f} crops/s{waiting}"


def _validation(done: Step, figure: str) -> str:
    return f"step {done.step}: {figure} on held-out persons {done.figure:.4f}{', the best so far' if done.best else ''}"


def _figure(config: TrainingConfig) -> str:
    from residency.train.task import task_of

    named = config.judged_by or ("auc" if task_of(config) == "classification" else "dice")
    return {"dice": "mean Dice", "auc": "mean area under the ROC curve", "balanced-accuracy": "balanced accuracy"}[
        named
    ]
