"""`residency optimise`: a faster form of a network, and the proof that nothing was lost."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from residency.cli.library import JsonOption
from residency.cli.train import with_data
from residency.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from residency.card import Card, Output
    from residency.datasets import Case
    from residency.optimise.optimised import Optimised, Tell

HELD_OUT, LEARNT = "held-out", "learnt"
"""Parts of a training file's data, beside its splits: the persons who chose the weights, and those learnt from."""

PACKAGE = "package"
"""In the folder of --out."""
FAILED = 1


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("optimise")(optimise)


def optimise(
    model: Annotated[Path, typer.Argument(metavar="FOLDER", help="The package to make faster.")],
    calibration: Annotated[
        str, typer.Option("--calibration", metavar="DATA:PART", help="Cases to measure ranges on.", show_default=False)
    ],
    gate: Annotated[
        str,
        typer.Option("--gate", metavar="DATA:PART", help="Cases to decide by, with references.", show_default=False),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="For the report and, if it passes, the new package.")
    ],
    test: Annotated[
        str | None, typer.Option("--test", metavar="DATA:PART", help="Cases to report on, that decide nothing.")
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(
            "--train", metavar="DATA:PART", help="Cases learnt from: nobody among them may be in another set."
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", help="Of the new package.  [default: the next minor one]")
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", help="'mixed', or 'performance': one scale around 0 for activations.")
    ] = "mixed",
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep-f32", metavar="OPERATOR", help="Kind of ONNX operator to leave in f32; several times."),
    ] = None,
    windows: Annotated[int, typer.Option("--windows", min=1, help="Most windows to measure ranges on.")] = 64,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the intervals.")] = 0,
    threads: Annotated[
        int, typer.Option("--threads", min=0, help="To judge and to time with; 0: as many as this process may use.")
    ] = 0,
    force: Annotated[bool, typer.Option("--force", help="Write over an older report and package in --out.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make an 8-bit form of a network after training, and judge whether it may ship.

    DATA is a training file or a folder of cases, PART one of its splits; of a training file also 'held-out', the
    persons who chose the weights, and 'learnt'. No person may be in two sets. The gate passes where on at least 20
    persons the mean Dice is at most 0.005 lower with its whole interval, no case is 0.02 lower, and no distance 2 mm
    more (of a classifier: AUC 0.005, calibration error 0.01). A form that passes becomes a new version of the package,
    which names its parent and needs an approval of its own; one that fails is reported and not written. Ends with 1
    unless the gate is passed. Needs no torch.

    Example: residency optimise models/lung --calibration train.yaml:held-out --gate train.yaml:val --out lung-int8
    """
    from residency.engines.openvino import OpenVino
    from residency.models.folder import read_folder, write_files, write_folder
    from residency.optimise.optimised import REPORT, Asked, optimised, with_variant
    from residency.optimise.quantise import Scheme
    from residency.optimise.sets import Sets

    if preset not in ("mixed", "performance"):
        raise UsageError(f"--preset {preset}: there are 'mixed' and 'performance'")
    from rich.console import Console

    package = read_folder(model)
    following = _checked(version or _next(package.card.identity.version), package.card)
    _make_room(out, force)
    console = Console(stderr=as_json, markup=False, highlight=False)
    found_in = _Places(_output(package.card))
    sets = Sets(
        calibration=found_in.cases("--calibration", calibration, references=False),
        gate=found_in.cases("--gate", gate),
        test=found_in.cases("--test", test) if test else (),
        train=found_in.cases("--train", train, references=False) if train else found_in.learnt,
    )
    scheme = Scheme("mixed" if preset == "mixed" else "performance", tuple(keep or ()))
    with _progress() as tell:
        found = optimised(
            package,
            sets,
            OpenVino(threads=threads),
            Asked(scheme, windows, seed=seed, threads=threads),
            tell,
            found_in.notes,
        )
    told = found.told()
    write_files(out, {REPORT: json.dumps(told, indent=1, allow_nan=False).encode("ascii")})
    if found.passed:
        made = with_variant(found, version=following, created=dt.datetime.now(dt.UTC).replace(microsecond=0))
        write_folder(out / PACKAGE, made)
        told["package"] = {"folder": str(out / PACKAGE), "digest": made.digest}
    if as_json:
        typer.echo(json.dumps(told, indent=1))
    else:
        _show(console, found, out)
    if not found.passed:
        raise typer.Exit(FAILED)


class _Places:
    """Where the sets come from, and what is learnt of them on the way.

    learnt  of all training files that were named; None where there was none
    notes   what a person should know
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._known: dict[Path, Mapping[str, tuple[Case, ...]]] = {}
        self.learnt: tuple[Case, ...] | None = None
        self.notes: list[str] = []

    def cases(self, option: str, said: str, *, references: bool = True) -> tuple[Case, ...]:
        """The cases of a part of a data set. Raises UsageError where there are none."""
        place, _, part = said.rpartition(":")
        if not place or not part:
            raise UsageError(f"{option} {said}: say which part of the data, as in train.yaml:val")
        data = Path(place)
        parts = _of_table(data, references) if data.is_dir() else self._of_training(data)
        if not parts.get(part):
            raise UsageError(f"{option} {said}: {place} has the parts {', '.join(parts)}")
        return parts[part]

    def _of_training(self, file: Path) -> Mapping[str, tuple[Case, ...]]:
        if file not in self._known:
            from residency.train.sources import division, gathered

            config = with_data(file)
            self._check(file, config.data.classes)
            every, divided = gathered(config), division(config)
            self.notes.extend(every.notes)
            self.learnt = (*(self.learnt or ()), *divided.learning)
            own = {HELD_OUT: divided.judging, LEARNT: divided.learning}
            self._known[file] = _by_split(every.cases) | own
        return self._known[file]

    def _check(self, file: Path, classes: Sequence[str]) -> None:
        """References of other classes would be compared with what the network never meant."""
        own = [kind.name for kind in self._output.classes]
        spare = self._output.kind == "segmentation" and self._output.decision.rule == "threshold"
        if len(classes) not in (len(own), len(own) + spare):
            raise UsageError(
                f"{file} has the classes {', '.join(classes)}; the card's output has {', '.join(own)}: they do not "
                "belong together"
            )


def _of_table(folder: Path, references: bool) -> Mapping[str, tuple[Case, ...]]:
    from residency.datasets import Table, read_cases

    table = Table() if references else Table(reference=None)
    return _by_split(read_cases(folder, table))


def _by_split(cases: Sequence[Case]) -> dict[str, tuple[Case, ...]]:
    return {split: tuple(c for c in cases if c.split == split) for split in sorted({case.split for case in cases})}


def _output(card: Card) -> Output:
    from residency.optimise.judged import judged_output

    return judged_output(card)


def _make_room(out: Path, force: bool) -> None:
    """Before anything that takes long. Raises UsageError where something is there, or nothing can be written."""
    from residency.optimise.optimised import REPORT

    there = [place for place in (out / REPORT, out / PACKAGE) if place.exists()]
    if there and not force:
        raise UsageError(f"{there[0]} is there already; name another folder with --out, or say --force")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
        (out / REPORT).unlink(missing_ok=True)
        if (out / PACKAGE / "manifest.json").is_file():
            shutil.rmtree(out / PACKAGE)
    except OSError as error:
        raise UsageError(f"{error.filename or out} cannot be written: {error.strerror}") from None


def _checked(version: str, card: Card) -> str:
    """A version that a card may have. Raises CardError for others, before anything is computed."""
    from residency.card import parse_card

    told = card.model_dump(mode="json")
    parse_card({**told, "identity": {**told["identity"], "version": version}})
    return version


def _next(version: str) -> str:
    """1.4.2 -> 1.5.0. Raises UsageError for versions of another form."""
    numbers = version.split(".")
    if len(numbers) != 3 or not all(one.isdigit() for one in numbers):
        raise UsageError(f"which version follows '{version}' cannot be known; name it with --version")
    return f"{numbers[0]}.{int(numbers[1]) + 1}.0"


@contextmanager
def _progress() -> Iterator[Tell]:
    """On standard error, which NNCF's own lines are not written to."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, markup=False, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=of)
                if not console.is_terminal:
                    console.print(f"{what} ...")
            bar.update(tasks[what], completed=done, total=of)

        yield tell


def _show(console: Console, found: Optimised, out: Path) -> None:
    from statistics import median

    from rich.table import Table
    from rich.text import Text

    bounds = Table("Bound", "Found", "Worst case", "Asked for", "Holds", title=f"Gate: {found.gate.verdict}")
    for one in found.gate.findings:
        cells = (one.what, one.found, one.case or "", one.bound, "yes" if one.holds else "NO")
        bounds.add_row(*map(Text, cells))
    console.print(bounds)
    if found.timing:
        times = Table("Form", "Median of a window", "Least to most", "Peak memory", title="On this machine")
        for name, form in found.timing.items():
            span = f"{min(form.seconds):.4f} to {max(form.seconds):.4f} s"
            times.add_row(name, f"{median(form.seconds):.4f} s", span, f"{form.peak_mb:.0f} MB")
        console.print(times)
        console.print(f"{found.speed_up:.2f} times as fast as in f32.")
    size, whole = len(found.graph), len(found.parent.with_role("graph").data)
    apart = "not comparable" if found.parity.rms is None else f"{found.parity.rms:.1%} apart (relative RMS)"
    console.print(
        f"{size / whole:.0%} of the size; scores {apart}, {found.parity.agrees:.3%} of the decisions alike on the "
        "calibration windows."
    )
    for note in found.notes:
        console.print(f"Note: {note}")
    for layer in found.blame:
        console.print(f"{layer.operator} {layer.name}: adds {layer.own:+.2%} of error to what comes in")
    if found.passed:
        console.print(f"Passed: {found.gate.why}. The new version is in {out / PACKAGE}; it needs its own approval.")
    else:
        console.print(f"{str(found.gate.verdict).capitalize()}: {found.gate.why}. No package was written.")
