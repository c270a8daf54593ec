"""The gates of a model that do not depend on the series: asked for, trusted, approved, licensed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from residency.selection.candidates import Candidate, CandidateTable
from residency.selection.gates import NOTHING, Status, Verdict
from residency.selection.ranking import Policy
from residency.standing import Standing, Use, last_day

STANDING_GATES = ("request", "trust", "approval", "licence")


def standing_status(
    table: CandidateTable, policy: Policy, use: Use, requested: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """(gates, candidates): True where a gate of STANDING_GATES is not passed."""
    everything = np.zeros(len(table), dtype=bool)
    return np.array(
        [
            ~requested,
            ~table.trusted,
            everything if policy.allow_unapproved else ~table.approved_for(use),
            everything if policy.allow_research else table.research_only,
        ],
        dtype=bool,
    )


def standing_verdicts(candidate: Candidate, policy: Policy, use: Use, is_requested: bool) -> tuple[Verdict, ...]:
    """The same gates for one candidate, with their reasons, in order."""
    return (
        _request(candidate, policy, is_requested),
        _trust(candidate),
        _approval(candidate, policy, use),
        _licence(candidate, policy),
    )


def what_to_do(candidate: Candidate, gate: str, use: Use) -> str | None:
    """What a person can do about a gate of standing that is not passed; None where there is nothing to do."""
    standing = candidate.standing
    if gate == "approval" and standing.withdrawn:
        return None
    if gate == "approval" and standing.scope and not standing.modality_fits(use):
        return (
            f"no approval is for modality {use.modality or 'unknown'}, which is that of the series; where it should be "
            "one, approve it for that too: residency models approve"
        )
    if gate == "approval" and standing.scope:
        return "say what the model is used for with --calling-ae and --purpose, or widen it: residency models approve"
    if gate == "approval":
        return "for research, take models that nobody here approved with --allow-unapproved; the result says so"
    if gate == "licence":
        return "to take weights that are for research only, set allow_research in the settings"
    if gate == "trust" and standing.problem is None and standing.publisher is None:
        return "to trust the publisher, if you do: residency trust add"
    return None


def _request(candidate: Candidate, policy: Policy, is_requested: bool) -> Verdict:
    status = Status.PASS if is_requested else Status.FAIL
    rule = NOTHING if policy.model is None else policy.model
    return Verdict("request", status, "model", candidate.card.identity.family, rule, "--model")


def _trust(candidate: Candidate) -> Verdict:
    standing = candidate.standing
    if standing.problem is not None:
        found = standing.problem
    elif standing.failed is not None:
        found = standing.failed
    elif standing.publisher is None:
        found = "signed by nobody whom this site trusts"
    elif standing.withdrawn:
        found = f"{standing.approval} by {standing.approved_by or 'a trusted key'}"
    else:
        found = f"signed by {standing.publisher}"
    if standing.unread:
        found += f"; of the statements beside it {standing.unread} cannot be read"
    status = Status.PASS if standing.trusted else Status.FAIL
    return Verdict(
        "trust", status, "standing", found, "whole, signed by a trusted publisher, not withdrawn", "statements"
    )


def _approval(candidate: Candidate, policy: Policy, use: Use) -> Verdict:
    standing = candidate.standing
    holds = standing.approved_for(use)
    found = standing.granted(use) or _refused(standing)
    if holds:
        status = Status.PASS
    elif policy.allow_unapproved:
        status, found = Status.PASS, f"{found}; allowed for research by --allow-unapproved"
    else:
        status = Status.UNKNOWN if holds is None else Status.FAIL
    rule = f"approved here for {use}" if standing.scope else "approved here"
    return Verdict("approval", status, "approval of this site", found, rule, "statements")


def _refused(standing: Standing) -> str:
    found = str(standing.approval) + (f" by {standing.approved_by}" if standing.approved_by else "")
    if standing.scope:
        found += f" for {standing.scope}"
    if standing.expired and not standing.withdrawn:
        found += f"; an approval expired on {last_day(standing.expired)}"
    return found


def _licence(candidate: Candidate, policy: Policy) -> Verdict:
    licences = candidate.card.licences
    found = f"{licences.weights}{', research only' if licences.research_only else ''}"
    refused = licences.research_only and not policy.allow_research
    rule = "use beyond research, or the site's consent (allow_research)"
    return Verdict("licence", Status.FAIL if refused else Status.PASS, "licence of the weights", found, rule, "card")
