"""Where the models of an archive come from: a forest by the digests that their cards name as parents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from residency.errors import UsageError
from residency.models.find import KnownModel, Library

SUPERSEDES = "supersedes"


@dataclass(frozen=True)
class Descent:
    """One version in the forest, listed parents first.

    model     None for a parent that the archive does not hold
    relation  to the parent under which it stands, such as "fine-tuned-from"; empty at a root
    parent    place of that parent in the list; None at a root
    others    further parents: relation and digest
    """

    digest: str
    model: KnownModel | None
    relation: str = ""
    parent: int | None = None
    others: tuple[tuple[str, str], ...] = ()


def descent(library: Library, family: str | None = None) -> tuple[Descent, ...]:
    """The forest in reading order: a version, then all that came of it, oldest first.

    family  only the trees in which a version of this family stands. Raises UsageError where there is none
    """
    models = dict(sorted(library.by_digest.items(), key=lambda item: _order(item[1])))
    children: dict[str, list[str]] = {}
    for digest, model in models.items():
        for _, parent in _parents(model)[:1]:
            children.setdefault(parent, []).append(digest)
    roots = [digest for digest, model in models.items() if not _parents(model)]
    roots += [parent for parent in children if parent not in models]
    found: list[Descent] = []
    for root in roots:
        tree = list(_below(root, models, children, len(found)))
        if family is None or any(d.model and d.model.card and d.model.card.identity.family == family for d in tree):
            found += tree
    if family is not None and not found:
        raise UsageError(f"no family '{family}' is in this archive: see 'residency models list'")
    return tuple(found)


def _below(
    root: str, models: Mapping[str, KnownModel], children: Mapping[str, list[str]], start: int
) -> Iterator[Descent]:
    """One tree, depth first. A digest covers its parents' digests, so there are no circles."""
    waiting: list[tuple[str, int | None]] = [(root, None)]
    at = start
    while waiting:
        digest, parent = waiting.pop()
        model = models.get(digest)
        edges = _parents(model) if model else ()
        relation = " and ".join(name for name, of in edges if edges and of == edges[0][1])
        others = tuple((name, of) for name, of in edges if of != edges[0][1])
        yield Descent(digest, model, relation, parent, others)
        waiting += [(child, at) for child in reversed(children.get(digest, []))]
        at += 1


def _parents(model: KnownModel) -> tuple[tuple[str, str], ...]:
    """(relation, digest): how it was made, then what it supersedes."""
    if model.card is None:
        return ()
    edges: list[tuple[str, str]] = [(edge.relation, edge.parent) for edge in model.card.lineage]
    if model.card.supersedes is not None:
        edges.append((SUPERSEDES, model.card.supersedes))
    return tuple(dict.fromkeys(edges))


def _order(model: KnownModel) -> tuple[str, int, str]:
    if model.card is None:
        return "", 0, model.digest
    return model.card.identity.family, model.card.identity.sequence, model.digest
