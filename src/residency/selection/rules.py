"""The site's label rules: what headers lack, supplied by exact match on named attributes, approved by a person.

Rules come as TOML and are data, never code. They are tried in order; the first approved one whose attributes all match
exactly supplies coded labels. What a header says coded is not replaced: where a rule contradicts it, that is told as a
conflict. An approval covers the digest of exactly one rule.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib.resources import files
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from residency.card.value import Slug
from residency.codes import Code, Kind, canonical, parse_code, relate
from residency.errors import CodeError, ConfigError
from residency.labels import ATTRIBUTES, Evidence, SeriesLabels, Side, Weighting

LARGEST_RULES = 256 * 1024
"""Bytes of a rules file that are read."""

Keyword = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z]{1,63}$")]
Exact = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Supplied(BaseModel):
    """The coded labels that a rule supplies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: Code | None = None
    side: Side | None = None
    weighting: Weighting | None = None

    @field_validator("region", mode="before")
    @classmethod
    def _typed(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return parse_code(value)
        except CodeError as error:
            raise ValueError(str(error)) from None

    def __str__(self) -> str:
        given = (("region", self.region), ("side", self.side), ("weighting", self.weighting))
        return ", ".join(f"{name} {value}" for name, value in given if value is not None)


class LabelRule(BaseModel):
    """When all named attributes have exactly these values, the series has these labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Slug
    version: Annotated[int, Field(ge=1)]
    note: Annotated[str, StringConstraints(max_length=500)] = ""
    when: Annotated[Mapping[Keyword, Exact], Field(min_length=1, max_length=16)]
    gives: Supplied

    @field_validator("when")
    @classmethod
    def _looked_at(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        """A keyword that is never read would make a rule that never matches, and nobody would know why."""
        for keyword in value:
            if keyword not in ATTRIBUTES:
                near = get_close_matches(keyword, ATTRIBUTES, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(ATTRIBUTES)}"
                raise ValueError(f"label rules do not look at '{keyword}', {hint}")
        return value

    @field_validator("gives")
    @classmethod
    def _something(cls, value: Supplied) -> Supplied:
        if not str(value):
            raise ValueError("gives nothing: name a region, a side or a weighting")
        return value

    @property
    def digest(self) -> str:
        """SHA-256 of what the rule does; its note is not part of it."""
        body = {
            "id": self.id,
            "version": self.version,
            "when": dict(sorted(self.when.items())),
            "region": f"{self.gives.region.scheme}:{self.gives.region.value}" if self.gives.region else None,
            "side": self.gives.side,
            "weighting": self.gives.weighting,
        }
        return "sha256:" + hashlib.sha256(json.dumps(body, sort_keys=True).encode("ascii")).hexdigest()

    def matches(self, attributes: Mapping[str, str]) -> bool:
        """True if every named attribute has exactly the named value."""
        return all(attributes.get(keyword) == value for keyword, value in self.when.items())

    @property
    def name(self) -> str:
        """How the selection table names a hit."""
        when = " and ".join(f"{keyword} = {value}" for keyword, value in self.when.items())
        return f"rule {self.id} version {self.version}: {when}"


@dataclass(frozen=True)
class RuleSet:
    """Rules in order, and who approved which: rule digest -> the approver's name."""

    rules: tuple[LabelRule, ...] = ()
    approvals: Mapping[str, str] = field(default_factory=dict)

    def get(self, rule_id: str) -> LabelRule:
        """A rule by its id. Raises ConfigError with the nearest known one."""
        for rule in self.rules:
            if rule.id == rule_id:
                return rule
        near = get_close_matches(rule_id, [rule.id for rule in self.rules], n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(r.id for r in self.rules) or 'none'}"
        raise ConfigError(f"there is no label rule '{rule_id[:80]}'; {hint}")

    def approver(self, rule: LabelRule) -> str | None:
        """Who approved exactly this rule, or None."""
        return self.approvals.get(rule.digest)


@dataclass(frozen=True)
class Ruled:
    """A series after the rules.

    labels    with what rules supplied, each with the rule as its source
    hits      the approved rules that supplied a label, or that the headers contradict
    conflict  coded evidence against a rule, naming both, or None
    """

    labels: SeriesLabels
    hits: tuple[LabelRule, ...] = ()
    conflict: str | None = None


def parse_rules(text: str, where: str) -> tuple[LabelRule, ...]:
    """Rules from TOML, in order. Raises ConfigError naming the rule and the key, with the nearest known one."""
    if len(text.encode("utf-8")) > LARGEST_RULES:
        raise ConfigError(f"{where}: label rules may have at most {LARGEST_RULES} bytes")
    try:
        data: Mapping[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not valid TOML: {error}") from None
    unknown = set(data) - {"rule"}
    if unknown or not isinstance(data.get("rule", []), list):
        raise ConfigError(f"{where}: a rules file holds [[rule]] tables only, found '{min(unknown, default='rule')}'")
    rules: list[LabelRule] = []
    for number, entry in enumerate(data.get("rule", []), start=1):
        try:
            rules.append(LabelRule.model_validate(entry))
        except ValidationError as error:
            raise ConfigError(f"{where}: rule {number}: {_explain(error)}") from None
    ids = [rule.id for rule in rules]
    if len(set(ids)) != len(ids):
        raise ConfigError(f"{where}: two rules have the id '{next(i for i in ids if ids.count(i) > 1)}'")
    return tuple(rules)


def shipped_rules() -> tuple[LabelRule, ...]:
    """The rules that come with the program. None applies before a person of the site approves it."""
    text = (files("residency.selection") / "label_rules.toml").read_text(encoding="utf-8")
    return parse_rules(text, "label_rules.toml")


def apply_rules(labels: SeriesLabels, rules: RuleSet) -> Ruled:
    """Supply what the headers lack. For each label the first approved rule that matches counts."""
    hits: list[LabelRule] = []
    conflicts: list[str] = []
    headers = labels
    for rule in rules.rules:
        if rules.approver(rule) is not None and rule.matches(labels.attributes):
            # Against the headers alone: an earlier rule stands before a later one, that is what their order is for.
            conflict = _conflict(headers, rule)
            supplied = _supply(labels, rule)
            if conflict:
                conflicts.append(conflict)
                hits.append(rule)
            elif supplied != labels:
                hits.append(rule)
                labels = supplied
    return Ruled(labels, tuple(hits), "; ".join(conflicts) or None)


def suggestion(labels: SeriesLabels, rules: RuleSet, asked: Collection[str]) -> str | None:
    """For a person to read: a rule that waits for approval, or one that could be written. Never acted upon.

    labels  after the approved rules
    asked   "region", "weighting" or both: what a model asks for; of the rules that wait the one that gives most of it
            is named, the first of equals

    None where neither the region nor the weighting of an MR series is missing, or nothing tells the series.
    """
    missing = {"region": "region as a code"} if labels.regions is None else {}
    if labels.modality == "MR" and labels.weighting is None:
        missing["weighting"] = "weighting"
    if not missing:
        return None

    def given_by(rule: LabelRule) -> int:
        return sum(name in asked and getattr(rule.gives, name) is not None for name in missing)

    waiting = [rule for rule in rules.rules if rules.approver(rule) is None and rule.matches(labels.attributes)]
    best = max(waiting, key=given_by, default=None)
    if best is not None and given_by(best):
        return f"{best.name} would give {best.gives}; to approve it: residency rules approve {best.id} --by NAME"
    when = {k: labels.attributes[k] for k in ("Modality", "SeriesDescription") if labels.attributes.get(k)}
    if "SeriesDescription" not in when:
        return None
    text = " and ".join(f"{keyword} = {value}" for keyword, value in when.items())
    given = " and the ".join(missing.values())
    return f"a label rule could say what this is: when {text}, give the {given} (see residency rules list)"


def _supply(labels: SeriesLabels, rule: LabelRule) -> SeriesLabels:
    gives = rule.gives
    if labels.regions is None and gives.region is not None:
        labels = replace(labels, regions=Evidence((canonical(gives.region),), rule.name))
    if labels.side is None and gives.side is not None:
        labels = replace(labels, side=Evidence(gives.side, rule.name))
    if labels.weighting is None and gives.weighting is not None:
        labels = replace(labels, weighting=Evidence(gives.weighting, rule.name))
    return labels


def _conflict(labels: SeriesLabels, rule: LabelRule) -> str | None:
    """Evidence that the rule contradicts. A wider or narrower region is none; the headers' stands then."""
    gives = rule.gives
    if labels.regions is not None and gives.region is not None:
        shown = labels.regions.value
        if relate(shown, gives.region).kind is Kind.DISJOINT and relate(gives.region, shown).kind is Kind.DISJOINT:
            return f"{labels.regions.source} contradicts {rule.name}, which gives region {gives.region}"
    for name, found, given in (
        ("side", labels.side, gives.side),
        ("weighting", labels.weighting, gives.weighting),
    ):
        if found is not None and given is not None and found.value != given:
            return f"{found.source} contradicts {rule.name}, which gives {name} {given}"
    return None


def _explain(error: ValidationError) -> str:
    # A misspelt key is also a missing one: the misspelling is what helps.
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in first["loc"]) or "rule"
    if first["type"] != "extra_forbidden":
        return f"{where}: {first['msg'].removeprefix('Value error, ')}"
    known: Sequence[str] = [*LabelRule.model_fields, *Supplied.model_fields]
    near = get_close_matches(str(first["loc"][-1]), known, n=1)
    return f"{where}: unknown key" + (f", did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}")
