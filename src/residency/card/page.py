"""The card as a page for people: headings and lines, the same for the terminal and for the PDF in the archive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from residency.card.contract import Input, Output, OutputClass
from residency.card.model import Card
from residency.card.record import Evaluation, InputStatistics, Training
from residency.card.value import Range


@dataclass(frozen=True)
class Section:
    """A heading and its rows: (what, text). A row without a `what` continues the one before."""

    heading: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Page:
    """Title, the notice that must stand at its top, and sections."""

    title: str
    notice: str
    sections: tuple[Section, ...]

    def text(self, width: int = 100) -> str:
        """Plain text, wrapped."""
        import textwrap

        lines = [self.title, "=" * len(self.title), "", self.notice]
        for section in self.sections:
            lines += ["", section.heading, "-" * len(section.heading)]
            for what, said in section.rows:
                lines += textwrap.wrap(
                    said, width, initial_indent=f"{what:<22} ", subsequent_indent=" " * 23, break_long_words=False
                ) or [what]
        return "\n".join(lines) + "\n"


def card_page(card: Card, digest: str | None = None) -> Page:
    """The whole card in reading order: what it is, for whom, what it needs, how good it is, where it comes from."""
    sections = (
        ("Identity", _identity(card, digest)),
        ("Intended use", _use(card)),
        *((f"Input '{i.name}'", _input(i)) for i in card.inputs),
        ("Step before", _step_before(card)),
        *((f"Output '{o.name}'", _output(o)) for o in card.outputs),
        ("Evaluation", (_figure(e) for e in card.evaluation)),
        ("Known failure modes", _bullets("", card.failure_modes)),
        ("Training", _training(card.training)),
        ("What its training images looked like", _statistics(card.statistics)),
        ("Watching it", _monitoring(card)),
        ("Running it", _runtime(card)),
        ("Golden case", _golden(card)),
        ("Lineage", _lineage(card)),
    )
    made = ((heading, tuple((what, said) for what, said in rows if said)) for heading, rows in sections)
    return Page(
        title=f"{card.identity.name} {card.identity.version}",
        notice=card.regulatory.notice,
        sections=tuple(Section(heading, rows) for heading, rows in made if rows),
    )


def measured(training: Training, statistics: InputStatistics) -> tuple[Section, ...]:
    """The sections of a card's page that tell of its training, for a card that is not whole yet."""
    made = (("Training", _training(training)), ("What its training images looked like", _statistics(statistics)))
    return tuple(Section(heading, tuple((what, said) for what, said in rows if said)) for heading, rows in made)


Rows = Iterator[tuple[str, str]]
Axis = Literal["LR", "PA", "SI"]


def _identity(card: Card, digest: str | None) -> Rows:
    identity, licences = card.identity, card.licences
    yield "What", identity.summary
    yield "Task", card.task
    yield "Family", f"{identity.family}, version {identity.version}, sequence {identity.sequence}"
    yield "Publisher", f"{identity.publisher.name} ({identity.publisher.id})"
    yield "Contact", identity.publisher.contact or ""
    yield "Created", identity.created.isoformat()
    yield "Version digest", digest or ""
    yield "Licence of weights", licences.weights + (" (research only)" if licences.research_only else "")
    yield "Licence of code", licences.code
    yield "Data", "; ".join(licences.data)
    yield "Diseases", "; ".join(str(c) for c in card.diseases)
    yield "Parameters", f"{card.parameters:,}"
    yield from _bullets("Citation", identity.citations)


def _use(card: Card) -> Rows:
    use, regulatory = card.intended_use, card.regulatory
    yield "Use", use.statement
    yield "Role", use.role
    yield "Users", use.users
    yield "Setting", use.setting or ""
    yield "Population", use.population
    yield from _bullets("Not for", use.out_of_scope)
    yield from _bullets("Contraindication", use.contraindications)
    yield "Oversight", use.oversight
    yield "Regulatory status", regulatory.status
    yield "Reference", regulatory.reference or ""
    yield "Device class", regulatory.device_class or ""
    yield "Notified body", regulatory.notified_body or ""
    yield "UDI", regulatory.udi or ""
    yield "Instructions", regulatory.instructions or ""
    yield "Change plan", regulatory.change_plan or ""
    yield "AI Act", regulatory.ai_act_risk or ""


def _input(needed: Input) -> Rows:
    yield "Modality", ", ".join(needed.modalities)
    yield "Channel", needed.channel or ""
    yield "Unit", needed.unit or ""
    cover = ", part of it is enough" if needed.partial_cover else ""
    cover += ", a larger region fits too" if needed.larger_region else ""
    yield "Region", "; ".join(str(c) for c in needed.regions) + cover
    yield "Side", needed.side or ""
    yield "Weighting", ", ".join(needed.weightings)
    yield "Contrast", needed.contrast or ""
    yield "Spacing, mm", _ranges(needed.spacing_mm)
    yield "Field of view, mm", _ranges(needed.field_of_view_mm)
    matrix = {"rows": needed.rows, "columns": needed.columns, "slices": needed.slices}
    yield "Matrix", _ranges({k: v for k, v in matrix.items() if v is not None})
    yield "Orientation", ", ".join(needed.orientations)
    yield "Derived images", needed.derived
    yield "Photometric", ", ".join(needed.photometric)
    yield "Age, years", str(needed.age_years or "")
    yield "Sex", needed.sex or ""
    yield "Content", "; ".join(f"{c.name} = {c.value}" for c in needed.content)
    yield "SOP classes", ", ".join(needed.sop_classes)
    for number, step in enumerate(needed.recipe.steps, 1):
        values = ", ".join(f"{k} {v}" for k, v in step.parameters.items())
        yield f"Preparation {number}", step.name + (f": {values}" if values else "")


def _step_before(card: Card) -> Rows:
    before = card.step_before
    if before is not None:
        yield "Family", before.family
        yield "Output", before.output
        yield "Crop", f"round the structure that it finds, {before.margin_mm:g} mm more on every side"
        yield "Paired", "one crop on each side" if before.paired else ""


def _output(made: Output) -> Rows:
    decision = made.decision
    yield "Kind", made.kind
    rule = "the largest score wins" if decision.rule == "argmax" else f"score at least {decision.threshold:g}"
    yield "Decision", f"{decision.activation}, then {rule}"
    if decision.smallest_component_mm3:
        yield "Dropped", f"components below {decision.smallest_component_mm3:g} mm3"
    if decision.largest_only:
        yield "Kept", "the largest component of each class"
    yield "Quantity", f"{made.quantity}{f', in {made.unit.value}' if made.unit else ''}" if made.quantity else ""
    yield "Stored as", "fractional segmentation" if made.stored_as == "probabilities" else ""
    yield "Meaning of a score", made.confidence or ""
    for one in made.classes:
        yield f"Class {one.index}", _class(one)


def _class(one: OutputClass) -> str:
    codes = [str(c) for c in (one.category, one.type, *one.modifiers) if c is not None]
    kept = ["its largest component alone"] if one.largest_only else []
    return one.name + (": " + "; ".join((*codes, *kept)) if codes or kept else "")


def _figure(figure: Evaluation) -> tuple[str, str]:
    group = f", {figure.subgroup}" if figure.subgroup else ""
    return (
        figure.metric,
        f"{figure.value:.3f} (95 % interval {figure.low:.3f} to {figure.high:.3f}); {figure.cohort}{group}: "
        f"{figure.cases} cases of {figure.persons} persons{', external' if figure.external else ''}; "
        + figure.definition
        + (f"; {figure.comparison}" if figure.comparison else ""),
    )


def _training(training: Training) -> Rows:
    for data in training.datasets:
        yield (
            "Data",
            f"{data.name}, {data.cases} cases of {data.persons} persons, {data.licence}, {data.source}; {data.labels}",
        )
        yield "Sites", ", ".join((*data.sites, *data.scanners, *([data.dates] if data.dates else [])))
        yield "Left out", data.exclusions or ""
    yield "Split", training.split
    yield "Augmentation", training.augmentation
    yield "Loss", training.loss
    yield "Optimiser", f"{training.optimiser}, {training.steps:,} steps, seed {training.seed}"
    yield "Epochs", f"{training.epochs:g}" if training.epochs is not None else ""
    yield "Hardware", f"{training.hardware}, {training.duration_minutes:.0f} minutes"
    yield "Energy", f"{training.energy_kwh:g} kWh" if training.energy_kwh is not None else ""
    if training.federation is not None:
        spread = training.federation
        budget = f", epsilon {spread.epsilon:g}" if spread.epsilon is not None else ""
        budget += f", delta {spread.delta:g}" if spread.delta is not None else ""
        yield "Federated", f"{spread.rounds} rounds, {spread.participants} participants{budget}"
    yield "Software", ", ".join(f"{k} {v}" for k, v in sorted(training.software.items()))
    yield "Configuration", training.config_digest or ""


def _statistics(seen: InputStatistics) -> Rows:
    yield "Raw percentiles", _ranges(seen.raw_percentiles)
    yield "Prepared percentiles", _ranges(seen.prepared_percentiles)
    yield "Spacing, mm", _ranges(seen.spacing_mm)
    yield "Field of view, mm", _ranges(seen.field_of_view_mm)
    yield "Volumes, mm3", _ranges(seen.volumes_mm3)


def _monitoring(card: Card) -> Rows:
    watched = card.monitoring
    yield "Plausible, mm3", _ranges(watched.plausible_mm3)
    yield from _bullets("Drift", watched.drift)
    yield "Tell", watched.contact or ""


def _runtime(card: Card) -> Rows:
    needed, small = card.runtime, card.compression
    yield "Opset", str(needed.opset or "")
    yield "Engine", " ".join(text for text in (needed.engine, needed.least_engine_version) if text)
    yield "Instruction sets", ", ".join(needed.instruction_sets)
    for one in needed.measured:
        memory = f", {one.peak_memory_mb:g} MB" if one.peak_memory_mb is not None else ""
        threads = f"{one.threads} thread{'s' if one.threads > 1 else ''}"
        yield "Measured", f"{one.what}: {one.seconds:g} s{memory} on {one.cpu}, {threads}, {one.precision}"
    if small is not None:
        verdict = "passed" if small.passed else "not passed"
        yield (
            "Compression",
            f"from {small.source_precision} by {small.method}, calibrated on {small.calibration}; "
            f"{small.metric} changed by {small.change:g}; gate {small.gate}: {verdict}",
        )


def _golden(card: Card) -> Rows:
    yield "Source", card.golden.source
    yield "Demanded", f"Dice at least {card.golden.least_dice:g} against the recorded result"


def _lineage(card: Card) -> Rows:
    yield "Supersedes", card.supersedes or ""
    for edge in card.lineage:
        yield edge.relation, edge.parent


def _bullets(what: str, texts: Iterable[str]) -> Rows:
    for number, text in enumerate(texts):
        yield (what if number == 0 else ""), text


def _ranges(by_name: Mapping[str, Range] | Mapping[Axis, Range]) -> str:
    named = sorted(by_name.items(), key=lambda item: _as_number(item[0]))  # percentiles come as text
    return ", ".join(f"{name} {limits}" for name, limits in named)


def _as_number(name: str) -> float:
    try:
        return float(name)
    except ValueError:
        return 0.0
