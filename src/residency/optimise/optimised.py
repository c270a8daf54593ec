"""A package with an 8-bit form of its network: made, judged, timed, and put into a new version."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import numpy as np

from residency.card import Card, Compression, Latency, Lineage
from residency.datasets import Case, read_images
from residency.engine import Engine, Network, Precision
from residency.errors import EngineError, InputError, TrainingError, UsageError
from residency.infer import questions
from residency.models.check import check_package
from residency.optimise.blame import Layer, layers_to_blame
from residency.optimise.clock import Form, Timing, timings
from residency.optimise.gate import Bounds, Gated, Verdict, gated
from residency.optimise.judged import Judged, judge, judged_output
from residency.optimise.quantise import Scheme, Window, quantised
from residency.optimise.sets import Sets
from residency.package import ModelPackage, Payload, build_package
from residency.prepare import prepare

VARIANT, REPORT = "variant-int8.onnx", "optimisation.json"
MOST_BLAMED = 4
"""Windows on which layers are compared: all their tensors are held at once."""

Tell = Callable[[str, int, int], None]
"""Called with what is done, how much of it is done, and how much there is."""


def silent(what: str, done: int, of: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Asked:
    """How a network is optimised.

    windows  most that ranges are measured on, spread evenly over the calibration cases
    threads  to judge and to time with; 0: as many as this process may use
    """

    scheme: Scheme = field(default_factory=Scheme)
    windows: int = 64
    bounds: Bounds = field(default_factory=Bounds)
    seed: int = 0
    threads: int = 0


@dataclass(frozen=True)
class Parity:
    """How far the 8-bit scores are from those in f32, over the windows of the calibration set.

    rms     relative: the root of the mean squared difference, by that of the scores; None where it is no number
    agrees  share of voxels (of a classification: windows) with the same largest score
    """

    rms: float | None
    agrees: float


@dataclass(frozen=True)
class Optimised:
    """What became of it.

    graph   in 8 bits
    sets    as a report tells them, by set: persons, cases, digest of the list
    notes   what a person should know
    gate    the verdict; `test` is the same question on the test set, and decides nothing
    blame   the layers that lose the most, where it did not pass
    timing  by form: f32, int8; empty where they could not be timed, which a note tells
    """

    parent: ModelPackage
    graph: bytes
    sets: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...]
    asked: Asked
    parity: Parity
    gate: Gated
    test: Gated | None
    blame: tuple[Layer, ...]
    timing: Mapping[str, Timing]

    @property
    def passed(self) -> bool:
        """Whether it may ship."""
        return self.gate.verdict is Verdict.PASSED

    @property
    def speed_up(self) -> float | None:
        """Of a window, median by median."""
        if not self.timing:
            return None
        return median(self.timing["f32"].seconds) / median(self.timing["int8"].seconds)

    def told(self, *, cases: bool = True) -> dict[str, Any]:
        """All of it as JSON values.

        cases  False leaves out which case was the worst: for what others may read
        """
        identity = self.parent.card.identity
        return {
            "format": "residency-optimisation/1",
            "model": {"name": identity.name, "version": identity.version, "digest": self.parent.digest},
            "method": _method(self.asked.scheme),
            "sets": self.sets,
            "notes": list(self.notes),
            "seed": self.asked.seed,
            "bounds": asdict(self.asked.bounds),
            "parity": asdict(self.parity),
            "verdict": str(self.gate.verdict),
            "gate": _gate(self.gate, cases=cases),
            "test": None if self.test is None else _gate(self.test, cases=cases),
            "blame": [asdict(one) for one in self.blame],
            "timing": {name: one.told() for name, one in self.timing.items()},
            "speed_up": None if self.speed_up is None else round(self.speed_up, 3),
            "bytes": {"f32": len(self.parent.with_role("graph").data), "int8": len(self.graph)},
        }


def optimised(
    package: ModelPackage,
    sets: Sets,
    engine: Engine,
    asked: Asked = Asked(),
    tell: Tell = silent,
    notes: Sequence[str] = (),
) -> Optimised:
    """The network of a package in 8 bits, judged against itself in f32 and timed beside it.

    Raises ModelError for a card with several outputs or a map, TrainingError for a case that cannot be read or does not
    suit it, GraphError for a graph that cannot be quantised, and EngineError where a form does not run in the precision
    that it is for. What `tell` raises ends the work.
    """
    check_package(package)
    card, graph = package.card, package.with_role("graph").data
    judged_output(card)
    windows = calibration_windows(spread(sets.calibration, asked.windows), card, asked.windows, tell)
    made = quantised(graph, windows, asked.scheme, lambda done, of: tell("measuring ranges", done, of))
    f32 = engine.load(graph, precision=Precision.F32)
    int8 = engine.load(made, precision=Precision.INT8)
    parity = _parity(windows, f32, int8, judged_output(card).tensor)

    def judged(cases: Sequence[Case], name: str) -> Gated:
        pairs = [_judged(cases, card, one, f"{name}, {of}", tell) for one, of in ((f32, "f32"), (int8, "int8"))]
        return gated(*pairs, bounds=asked.bounds, seed=asked.seed)

    gate = judged(sets.gate, "judging the gate set")
    test = judged(sets.test, "judging the test set") if sets.test else None
    blame = layers_to_blame(graph, made, windows[:MOST_BLAMED]) if gate.verdict is Verdict.FAILED else ()
    shapes = {name: tensor.shape for name, tensor in windows[0].items()}
    forms = {"f32": Form(graph, Precision.F32), "int8": Form(made, Precision.INT8)}
    told = [] if sets.train is not None else ["who was learnt from is not known here, and may be among these persons"]
    try:
        timing = timings(
            forms, shapes, threads=asked.threads, progress=lambda done, of: tell("timing in fresh processes", done, of)
        )
    except EngineError as error:  # the verdict took long, and stands without
        timing = {}
        told.append(f"not timed: {error}")
    notes = (*notes, *told)
    return Optimised(package, made, sets.told(), notes, asked, parity, gate, test, blame, timing)


def spread(cases: Sequence[Case], most: int) -> tuple[Case, ...]:
    """At most so many cases, evenly from the first to the last."""
    kept = min(len(cases), most)
    return tuple(cases[(2 * k + 1) * len(cases) // (2 * kept)] for k in range(kept))


def calibration_windows(cases: Sequence[Case], card: Card, most: int, tell: Tell) -> list[Window]:
    """At most so many windows of the prepared cases, as many of each. Raises TrainingError."""
    each = max(1, most // len(cases))
    found: list[Window] = []
    for number, case in enumerate(cases, 1):
        volumes = tuple(read_images(case).values())
        if len(volumes) != len(card.inputs):
            raise TrainingError(f"case '{case.name}' has {len(volumes)} images, the network takes {len(card.inputs)}")
        try:
            prepared = {one.name: prepare(volume, one.recipe) for one, volume in zip(card.inputs, volumes, strict=True)}
        except InputError as error:
            raise TrainingError(f"case '{case.name}' cannot be prepared: {error}") from None
        found.extend(questions(prepared, card, each))
        tell("preparing calibration cases", number, len(cases))
    return found


def with_variant(found: Optimised, *, version: str, created: dt.datetime) -> ModelPackage:
    """A new version of the package with the 8-bit form in it, the parent's golden case, and its report.

    Raises UsageError unless the gate was passed, and PackageError and its kin for a package that is not whole.
    """
    if not found.passed:
        raise UsageError(f"the 8-bit form does not ship: {found.gate.verdict}, {found.gate.why}")
    parent = found.parent
    card = parent.card
    identity = card.identity.model_copy(
        update={"version": version, "sequence": card.identity.sequence + 1, "created": created}
    )
    kept = [one for one in parent.payloads if one.role != "variant/int8" and one.name != REPORT]
    report = json.dumps(found.told(cases=False), indent=1, allow_nan=False).encode("ascii")
    made = build_package(
        card.model_copy(
            update={
                "identity": identity,
                "supersedes": parent.digest,
                "lineage": (*card.lineage, Lineage(relation="quantised-from", parent=parent.digest)),
                "compression": _compression(found),
                "runtime": card.runtime.model_copy(
                    update={"measured": (*card.runtime.measured, *map(_latency, found.timing.values()))}
                ),
            }
        ),
        [
            *kept,
            Payload("variant/int8", VARIANT, "application/onnx", found.graph),
            Payload("report", REPORT, "application/json", report),
        ],
    )
    check_package(made)
    return made


def _judged(cases: Sequence[Case], card: Card, network: Network, what: str, tell: Tell) -> tuple[Judged, ...]:
    return judge(cases, card, network, lambda done, of: tell(what, done, of))


def _parity(windows: Sequence[Window], f32: Network, int8: Network, tensor: str) -> Parity:
    squares, whole, same, voxels = 0.0, 0.0, 0, 0
    for window in windows:
        exact, rough = (one.collect(one.submit(window))[tensor] for one in (f32, int8))
        squares += float(((rough - exact) ** 2).sum(dtype=np.float64))
        whole += float((exact**2).sum(dtype=np.float64))
        same += int((rough.argmax(axis=1) == exact.argmax(axis=1)).sum())
        voxels += exact.size // exact.shape[1]
    return Parity((squares / whole) ** 0.5 if 0 < whole < math.inf and math.isfinite(squares) else None, same / voxels)


def _gate(found: Gated, *, cases: bool) -> dict[str, Any]:
    told = asdict(found)
    if not cases:
        told["findings"] = [{**one, "case": None} for one in told["findings"]]
    return told


def _method(scheme: Scheme) -> str:
    kept = f"; in f32: {', '.join(scheme.in_f32)}" if scheme.in_f32 else ""
    return f"post-training quantisation by NNCF, {scheme.preset}, overflow fix in all layers{kept}"


def _compression(found: Optimised) -> Compression:
    calibration = found.sets["calibration"]
    worst = min((one for one in found.gate.findings if one.mean is not None), key=lambda one: one.mean or 0.0)
    return Compression(
        source_precision="f32",
        method=_method(found.asked.scheme),
        calibration=(
            f"at most {found.asked.windows} windows, spread over {calibration['cases']} cases of "
            f"{calibration['persons']} persons, {calibration['digest']}"
        ),
        metric=worst.what,
        change=round(worst.mean or 0.0, 6),
        gate=f"{found.gate.verdict}: {found.gate.why}",
        passed=found.passed,
    )


def _latency(timing: Timing) -> Latency:
    return Latency(
        cpu=timing.build,
        threads=int(timing.build.rsplit("x", 1)[1]),
        precision=timing.precision.value,
        what="one window, median in fresh processes",
        seconds=round(median(timing.seconds), 5),
        peak_memory_mb=round(timing.peak_mb, 1),
    )
