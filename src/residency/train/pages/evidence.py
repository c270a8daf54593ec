"""`report.html`: how good a network is, and how that is known, as one page that needs nothing else.

Everything that comes from data, tables and cards is escaped. The page's own policy allows it no connection, no script
but the one in it (named by its digest), and no picture but those in it. Equal evidence gives equal text.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from residency.card.page import Section as CardSection
from residency.train.evidence.figures import ALL, KINDS, Figure, score
from residency.train.evidence.found import Evidence
from residency.train.evidence.pictures import Section
from residency.train.evidence.rows import Row
from residency.train.pages import figures
from residency.train.pages.style import SCRIPT, STYLE
from residency.train.pages.tables import ends, facts, number, plain, right, table, text

MOST_ROWS = 2000
"""Most cases of the table; the worst ones are shown."""

MOST_WORST = 10
"""Worst cases of a classification that are listed."""

MOST_CLASSES = 6
"""Most classes that have columns of their own in the table of cases."""

NOTICE = "Research use only. Not a medical device. Figures of one data set say little about another."


@dataclass(frozen=True, eq=False)
class EvidencePage:
    """What the page shows beside the evidence. Texts are plain; nothing in them is taken for markup.

    curves     how learning went, of each run
    chosen_by  the figure that chose the weights, in words
    worst      cases with sections, the worst first
    card       what was measured, as a card's page tells it
    missing    (field, what only a person can say there)
    draft      the card, filled in
    settings   the training file with all that it leaves out
    """

    evidence: Evidence
    curves: tuple[figures.Curve, ...] = ()
    chosen_by: str = ""
    worst: tuple[tuple[Row, tuple[Section, ...]], ...] = ()
    card: tuple[CardSection, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    draft: str = ""
    settings: str = ""


def evidence_html(page: EvidencePage) -> str:
    """The whole page."""
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(STYLE)}'; script-src '{_digest(SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = [(heading, body) for heading, body in _sections(page) if body]
    links = "".join(f'<a href="#s{k}">{escape(heading)}</a>' for k, (heading, _) in enumerate(parts))
    body = "\n".join(f'<h2 id="s{k}">{escape(heading)}</h2>\n{text}' for k, (heading, text) in enumerate(parts))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy, quote=True)}">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(page.evidence.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"{_head(page.evidence)}\n<nav>{links}</nav>\n{body}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _sections(page: EvidencePage) -> Iterator[tuple[str, str]]:
    evidence = page.evidence
    yield "Figures", _figures(evidence)
    yield "Cases", figures.of_cases(evidence)
    yield "Worst cases", _worst(page)
    yield "Calibration", figures.of_calibration(evidence)
    yield "Confusion", _confusion(evidence)
    yield "Subgroups", _subgroups(evidence)
    yield "Compared", _compared(evidence)
    yield "Learning curves", figures.of_learning(page.curves, page.chosen_by)
    yield "Every case", _cases(evidence)
    yield "Card", _card(page)
    yield (
        "Settings",
        f"<details><summary>The training file, whole</summary><pre>{escape(page.settings)}</pre></details>",
    )


def _head(evidence: Evidence) -> str:
    tiles = []
    if (found := evidence.headline) is not None:
        tiles.append((plain(found.mean), f"{evidence.headline_name}, 95 % interval {ends(found)}"))
    if evidence.worst:
        worst = evidence.worst[0]
        what = "given to its class" if evidence.classifies else "mean Dice"
        tiles.append((plain(score(worst)), f"worst case, {worst.case} ({what})"))
    persons = len({row.person for row in evidence.rows})
    tiles.append((f"{len(evidence.rows):,}", f"cases of {persons:,} persons"))
    tiles += [
        (_mean(one), f"{one.name}{_unit(one, evidence)}, mean{_missed(one)}")
        for one in evidence.figures
        if one.kind in ("hd95", "balanced_accuracy") and (one.of == ALL or len(evidence.classes) == 2)
    ]
    drawn = "".join(f'<div class="tile"><b>{escape(big)}</b><span>{escape(small)}</span></div>' for big, small in tiles)
    return (
        f"<h1>{escape(evidence.title)}</h1>\n<p>Judged: {escape(evidence.judged)}.<br>On: {escape(evidence.cohort)}. "
        f'{escape(evidence.caution)}.</p>\n<div class="notice" role="note">{NOTICE}</div>\n'
        f'<div class="tiles">{drawn}</div>'
    )


def _figures(evidence: Evidence) -> str:
    heads = ("Figure", "Class", ">Mean", ">95 % interval", ">Median", ">5th percentile, bad end", ">Worst", ">Cases")
    rows = [
        (
            text(KINDS[one.kind].name + _unit(one, evidence), KINDS[one.kind].told(evidence.rows[0].unit)),
            text(one.of),
            number(one.interval.mean),
            right(ends(one.interval)),
            number(one.median),
            number(one.tail),
            number(one.worst),
            right(f"{one.interval.cases:,}"),
            text(_remarks(one)),
        )
        for one in evidence.figures
    ]
    return table((*heads, "Remarks"), rows) + (
        '<p class="dim">Intervals: bootstrap over persons, each with all cases. A structure that was missed, or '
        "invented where nothing was, counts 0 in Dice and infinity in a distance; where neither reference nor answer "
        "has it, the case says nothing.</p>"
    )


def _remarks(one: Figure) -> str:
    said = []
    if one.interval.infinite:
        said.append(f"{one.interval.infinite} missed or invented")
        if one.finite is not None:
            said.append(f"mean of the others {plain(one.finite.mean)} ({ends(one.finite)})")
    if one.interval.left_out:
        said.append(f"{one.interval.left_out} say nothing")
    return "; ".join(said)


def _worst(page: EvidencePage) -> str:
    evidence = page.evidence
    if not evidence.classifies:
        shown = "".join(figures.worst_case(row, sections) for row, sections in page.worst)
        return figures.legend(evidence.classes) + shown if shown else ""
    rows = [
        (
            text(row.case),
            text(evidence.classes[row.truth or 0]),
            text(evidence.classes[max(range(len(row.probabilities)), key=row.probabilities.__getitem__)]),
            number(score(row)),
        )
        for row in evidence.worst[:MOST_WORST]
    ]
    return table(("Case", "Is", "Likeliest", ">Given to what it is"), rows)


def _confusion(evidence: Evidence) -> str:
    matrix = evidence.confusion
    if matrix is None:
        return ""
    rows = []
    for k, name in enumerate(evidence.classes):
        total = max(1, int(matrix[k].sum()))
        kinds = ["hit" if k == j else "miss" if count else "" for j, count in enumerate(matrix[k].tolist())]
        cells = [
            f'<td class="n {kind}">{count:,} ({100 * count / total:.0f} %)</td>'
            for kind, count in zip(kinds, matrix[k].tolist(), strict=True)
        ]
        rows.append((text(name), *cells))
    return table(("Is, in cases", *(f">{name}" for name in evidence.classes)), rows) + (
        '<p class="dim">Columns: the likeliest class. Percentages are of what the cases are.</p>'
    )


def _subgroups(evidence: Evidence) -> str:
    rows = [
        (
            text(one.group[0]),
            text(one.group[1]),
            text(one.name + _unit(one, evidence)),
            number(one.interval.mean),
            right(ends(one.interval)),
            right(f"{one.interval.cases:,}"),
            right(f"{one.interval.persons:,}"),
            text(_remarks(one)),
        )
        for one in evidence.subgroups
        if one.group is not None
    ]
    heads = ("Column", "Value", "Figure", ">Mean", ">95 % interval", ">Cases", ">Persons", "Remarks")
    shown = table(heads, rows, sortable=True)
    told = "Of many groups, some differ by chance: a difference found here is a question for other data, not an answer."
    return shown + f'<p class="dim">{told}</p>' if shown else ""


def _compared(evidence: Evidence) -> str:
    rows = [
        (
            text(KINDS[one.kind].name),
            text(one.of),
            number(one.difference.mean),
            right(ends(one.difference)),
            right(f"{one.difference.cases:,}"),
        )
        for one in evidence.against
    ]
    told = (
        f"This one minus {evidence.against_what}, case by case, persons drawn in pairs. An interval that holds 0 is no "
        "proof that both are as good."
    )
    shown = table(("Figure", "Class", ">Difference", ">95 % interval", ">Cases"), rows)
    return f"<p>{escape(told)}</p>{shown}" if shown else ""


def _cases(evidence: Evidence) -> str:
    rows, classes = evidence.rows, evidence.classes
    shown = rows if len(rows) <= MOST_ROWS else evidence.worst[:MOST_ROWS]
    if evidence.classifies:
        heads = [">Given to its class", "Is", *(f">p({name})" for name in classes)]
        cells = [[text(classes[row.truth or 0]), *map(number, row.probabilities)] for row in shown]
    else:
        names, kinds = classes[1 : 1 + MOST_CLASSES], ("dice", "hd95", "volume_error")
        heads = [">Mean Dice", *(f">{KINDS[kind].name} {name}" for name in names for kind in kinds)]
        cells = [[number(row.figures[name][kind]) for name in names for kind in kinds] for row in shown]
    made = [(text(row.case), text(row.person), number(score(row)), *own) for row, own in zip(shown, cells, strict=True)]
    cut = "" if len(shown) == len(rows) else f"<p>The {len(shown):,} worst of {len(rows):,} cases.</p>"
    return cut + table(("Case", "Person", *heads), made, sortable=True)


def _card(page: EvidencePage) -> str:
    parts = []
    if page.missing:
        parts.append(f"<h3>What only a person can say</h3>{facts(page.missing)}")
    parts += [f"<h3>{escape(section.heading)}</h3>{facts(section.rows)}" for section in page.card]
    if page.draft:
        parts.append(_folded("card.yaml, filled in with what was measured", page.draft))
    return "".join(parts)


def _folded(heading: str, content: str) -> str:
    return f"<details><summary>{escape(heading)}</summary><pre>{escape(content)}</pre></details>"


def _unit(one: Figure, evidence: Evidence) -> str:
    unit = one.unit(evidence.rows[0].unit)
    return f", {unit}" if unit else ""


def _missed(one: Figure) -> str:
    return f" ({one.interval.infinite} missed or invented left out)" if one.interval.infinite else ""


def _mean(one: Figure) -> str:
    kept = one.finite if one.interval.infinite and one.finite is not None else one.interval
    return plain(kept.mean)
