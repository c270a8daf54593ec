"""People decide about models on the command line: approve, restrict, withdraw, go back, look back; keys change."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from residency.archive import Level, Query
from residency.archives.folder import FolderArchive
from residency.errors import AdmissionError, ArchiveError, ConflictError, RevokedError, UntrustedKeyError, UsageError
from residency.models import write_folder
from residency.package import ModelPackage, Payload, build_package
from residency.selection import Candidate, CandidateTable, Policy, RuleSet, select
from residency.site import Site
from residency.testing.cards import example_card
from residency.testing.studies import example_series, regions

Run = Callable[..., Result]
YEAR = dt.datetime.now(dt.UTC).year


@pytest.fixture
def site(published: Run, tmp_path: Path) -> Run:
    """The published model, and an approver whom the site trusts."""
    published("trust", "new-key", tmp_path / "dr")
    published("trust", "add", tmp_path / "dr.pub", "--role", "approver", "--name", "Dr A")
    return published


def said(result: Result) -> Any:
    """What a command printed as JSON."""
    return json.loads(result.stdout)


def standing(run: Run, name: str = "example") -> dict[str, Any]:
    (found,) = [row for row in said(run("models", "list", "--json")) if name in (row["name"], row["family"])]
    return found


def next_version(package: ModelPackage, sequence: int, **changes: Any) -> ModelPackage:
    """A later version of the family: the same network."""
    card = example_card(
        {
            "parameters": 4,
            "tiling": {"window": [8, 8, 8], "overlap": 0.5},
            "identity.version": f"{sequence}.0.0",
            "identity.sequence": sequence,
            **{key.replace("__", "."): value for key, value in changes.items()},
        }
    )
    return build_package(card, package.payloads)


@pytest.fixture
def publish(site: Run, tmp_path: Path) -> Callable[[ModelPackage], None]:
    def publish(package: ModelPackage) -> None:
        folder = tmp_path / package.digest[7:20]
        write_folder(folder, package)
        site("models", "publish", folder, "--key", tmp_path / "key")

    return publish


def chosen(run: Run, tmp_path: Path) -> str | None:
    """The version that selection takes for a series of the hippocampus, as the command line judges the models."""
    from residency.assemble import models_of, open_archive, open_engine
    from residency.settings import read_settings

    settings = read_settings().settings
    archive = open_archive(None, settings)
    library = models_of(archive, Site(settings.home), open_engine(settings), settings, index=None)
    archive.close()
    table = CandidateTable.of(Candidate(m.card, m.standing) for m in library.by_digest.values() if m.card)
    series = example_series(regions=regions("SCT:5366008"))
    (outcome,) = select([series], table, rules=RuleSet(), policy=Policy(), content=lambda _uid, _: None).outcomes
    return outcome.candidate.card.identity.version if outcome.candidate else None


def test_an_approval_is_signed_stored_and_counts(site: Run, tmp_path: Path):
    assert chosen(site, tmp_path) is None
    done = site("models", "approve", "example", "--key", tmp_path / "dr", "--comment", "Seen on 20 cases")
    assert "Example segmenter 1.0.0 is approved" in done.stdout
    assert (standing(site)["approval"], standing(site)["approved_by"]) == ("approved", "Dr A")
    assert chosen(site, tmp_path) == "1.0.0"
    shown = site("models", "history", "example").stdout
    assert "approved by Dr A, approver" in shown
    assert "Seen on 20 cases" in shown
    assert "counts [archive]" in shown


def test_an_approval_taken_out_of_the_archive_counts_no_longer(site: Run, tmp_path: Path):
    """Approvals are not remembered: whoever deletes one takes it back."""
    shutil.copytree(tmp_path / "archive", tmp_path / "before")
    site("models", "approve", "example", "--key", tmp_path / "dr")
    shutil.rmtree(tmp_path / "archive")
    (tmp_path / "before").rename(tmp_path / "archive")
    assert standing(site)["approval"] == "not approved"


def test_scope_and_expiry_are_signed_and_shown(site: Run, tmp_path: Path):
    options = ["--scope-modality", "MR", "--scope-ae", "MR1", "--scope-ae", "MR2", "--purpose", "follow-up"]
    one = said(
        site(
            "models",
            "approve",
            "example",
            "--key",
            tmp_path / "dr",
            *options,
            "--expires",
            f"{YEAR + 1}-01-31",
            "--by",
            "Ann",
            "--json",
        )
    )
    assert one["scope"] == {"ae_titles": ["MR1", "MR2"], "modalities": ["MR"], "purpose": "follow-up"}
    assert one["expires"] == f"{YEAR + 1}-02-01T00:00:00Z"
    assert one["evidence"] == {"by": "Ann"}
    assert standing(site)["scope"] == "AE MR1, MR2; modality MR; purpose follow-up"
    shown = site("models", "history", "example").stdout
    assert f"for AE MR1, MR2; modality MR; purpose follow-up; until {YEAR + 1}-02-01 00:00 UTC; counts" in shown
    assert "approved by Dr A (Ann)" in shown


def test_a_scope_decides_what_is_chosen(site: Run, tmp_path: Path):
    site("models", "approve", "example", "--key", tmp_path / "dr", "--scope-modality", "CT")
    assert chosen(site, tmp_path) is None
    site("models", "approve", "example", "--key", tmp_path / "dr", "--scope-modality", "MR")
    assert chosen(site, tmp_path) == "1.0.0"
    site("models", "restrict", "example", "--key", tmp_path / "dr", "--scope-ae", "MR1")
    assert chosen(site, tmp_path) is None
    assert standing(site)["scope"] == "modality MR or modality CT; only AE MR1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--expires", "tomorrow"], "is a date such as"),
        (["--expires", "2020-01-01"], "is past"),
        (["--scope-modality", "Magnetic"], "no modality of DICOM"),
        (["--scope-modality", "MRI"], r"did you mean MR \(Magnetic Resonance\)"),
        (["--scope-ae", "A" * 17], "cannot be a limit"),
        (["--comment", "a\x1b[31m"], "cannot be stated: comment"),
        (["--by", "\n"], "cannot be stated"),
    ],
)
def test_what_cannot_be_stated_is_said_and_nothing_is_stored(
    options: list[str], message: str, site: Run, tmp_path: Path
):
    with pytest.raises(UsageError, match=message):
        site("models", "approve", "example", "--key", tmp_path / "dr", *options)
    assert said(site("models", "history", "example", "--json"))["statements"] == []


@pytest.mark.parametrize("command", ["suspend", "revoke"])
def test_a_withdrawal_says_why_and_what_it_does_not_cover(
    command: str, site: Run, package: ModelPackage, publish: Callable[[ModelPackage], None], tmp_path: Path
):
    """A family named alone is its newest version; whoever withdraws it must not believe that the others are gone."""
    publish(next_version(package, 2))
    site("models", "approve", "example 1.0.0", "--key", tmp_path / "dr")
    for empty in ("", "  "):
        with pytest.raises(UsageError, match="--reason is empty"):
            site("models", command, "example", "--key", tmp_path / "dr", "--reason", empty)
    done = site("models", command, "example", "--key", tmp_path / "dr", "--reason", "swaps sides").stdout
    assert f"Example segmenter 2.0.0 is {'revoked' if command == 'revoke' else 'suspended'}" in done
    short = package.digest.removeprefix("sha256:")[:12]
    assert f"not covered, stays as it is: 1.0.0 ({short}), approved by Dr A" in done


def test_no_approval_reads_as_if_it_had_effect_after_a_withdrawal(site: Run, tmp_path: Path):
    site("models", "approve", "example", "--key", tmp_path / "dr", "--scope-modality", "MR")
    site("models", "suspend", "example", "--key", tmp_path / "dr", "--reason", "wait")
    for kind, noun in (("suspended", "suspension"), ("revoked", "revocation")):
        listed = site("models", "list").stdout
        assert f"{kind} by Dr A" in listed
        assert "modality MR" not in listed, "a withdrawal is not limited to what was approved"
        shown = site("models", "history", "example").stdout
        assert f"for modality MR; does not count: outweighed by the {noun} [archive]" in shown
        first, *others = said(site("models", "history", "example", "--json"))["statements"]
        assert (first["counts"], {one["counts"] for one in others}) == (False, {True})
        site("models", "revoke", "example", "--key", tmp_path / "dr", "--reason", "wrong")


def test_a_restriction_must_limit_something(site: Run, tmp_path: Path):
    with pytest.raises(UsageError, match="what is it still good for"):
        site("models", "restrict", "example", "--key", tmp_path / "dr")


def test_a_key_that_nobody_would_hear_stores_nothing(site: Run, tmp_path: Path):
    """Its owner would go away believing that the model is approved, or worse, withdrawn."""
    site("trust", "new-key", tmp_path / "stranger")
    for key in ("stranger", "key"):  # the publisher approves nothing either
        with pytest.raises(UntrustedKeyError, match="residency trust add"):
            site("models", "approve", "example", "--key", tmp_path / key)
    with pytest.raises(UntrustedKeyError):
        site("models", "revoke", "example", "--key", tmp_path / "stranger", "--reason", "x")
    assert said(site("models", "history", "example", "--json"))["statements"] == []


def test_what_cannot_be_used_is_not_approved_but_withdrawn_all_the_same(site: Run, tmp_path: Path):
    """Other sites may be able to use it: the parts that are missing here, or the key that is not trusted here."""
    (acme,) = [row["key_id"] for row in said(site("trust", "list", "--json")) if row["name"] == "Acme"]
    site("trust", "remove", acme)
    with pytest.raises(UntrustedKeyError):
        site("models", "approve", "example", "--key", tmp_path / "dr")
    site("models", "revoke", "example", "--key", tmp_path / "dr", "--reason", "its publisher's key was stolen")
    site("trust", "add", tmp_path / "key.pub", "--role", "publisher", "--name", "Acme")
    assert standing(site)["approval"] == "revoked"


def test_a_publisher_withdraws_its_own_model_and_not_anothers(site: Run, tmp_path: Path):
    site("trust", "new-key", tmp_path / "other")
    site("trust", "add", tmp_path / "other.pub", "--role", "publisher", "--name", "Other")
    with pytest.raises(UsageError, match="'Other' did not publish this model"):
        site("models", "suspend", "example", "--key", tmp_path / "other", "--reason", "rival")
    site("models", "suspend", "example", "--key", tmp_path / "key", "--reason", "found a fault")
    assert standing(site)["approval"] == "suspended"


def test_nothing_brings_a_revoked_model_back(site: Run, tmp_path: Path):
    """Neither approving it, nor an archive from before the revocation, nor a new look-up of models."""
    site("models", "approve", "example", "--key", tmp_path / "dr")
    shutil.copytree(tmp_path / "archive", tmp_path / "snapshot")
    site("models", "revoke", "example", "--key", tmp_path / "dr", "--reason", "swaps sides")
    assert chosen(site, tmp_path) is None
    with pytest.raises(RevokedError, match="Dr A"):
        site("models", "approve", "example", "--key", tmp_path / "dr")
    with pytest.raises(RevokedError):
        site("models", "rollback", "example", "--key", tmp_path / "dr", "--to", "1.0.0")
    shutil.rmtree(tmp_path / "archive")
    (tmp_path / "snapshot").rename(tmp_path / "archive")
    shutil.rmtree(tmp_path / "home" / "cache")
    assert standing(site)["approval"] == "revoked"
    assert chosen(site, tmp_path) is None
    shown = site("models", "history", "example").stdout
    assert "revoked by Dr A" in shown
    assert "counts [here]" in shown


def test_a_withdrawal_holds_here_also_where_the_archive_does_not_take_it(
    site: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A full archive must not keep a model in use that swaps sides; an approval it did not take is none."""

    def full(_archive: FolderArchive, _instances: object) -> None:
        raise ArchiveError("the disk is full")

    site("models", "approve", "example", "--key", tmp_path / "dr")
    with monkeypatch.context() as patched:
        patched.setattr(FolderArchive, "store", full)
        with pytest.raises(ArchiveError, match="full"):
            site("models", "approve", "example", "--key", tmp_path / "dr", "--comment", "again")
        with pytest.raises(ArchiveError, match="full"):
            site("models", "revoke", "example", "--key", tmp_path / "dr", "--reason", "swaps sides")
    assert standing(site)["approval"] == "revoked"
    assert chosen(site, tmp_path) is None
    held = [(one["kind"], one["held"]) for one in said(site("models", "history", "example", "--json"))["statements"]]
    assert held == [("approved", ["archive"]), ("revoked", ["here"])]


def test_another_site_that_looks_once_remembers_too(site: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A revocation reaches every site by the archive; from then on, deleting it there undoes it at none."""
    shutil.copytree(tmp_path / "archive", tmp_path / "snapshot")
    site("models", "revoke", "example", "--key", tmp_path / "dr", "--reason", "swaps sides")
    monkeypatch.setenv("RESIDENCY_HOME", str(tmp_path / "second"))
    site("trust", "add", tmp_path / "key.pub", "--role", "publisher", "--name", "Acme")
    site("trust", "add", tmp_path / "dr.pub", "--role", "approver", "--name", "Dr A")
    site("models", "list")
    shutil.rmtree(tmp_path / "archive")
    (tmp_path / "snapshot").rename(tmp_path / "archive")
    assert standing(site)["approval"] == "revoked"


def test_going_back_and_forward_is_what_selection_does(
    site: Run, package: ModelPackage, publish: Callable[[ModelPackage], None], tmp_path: Path
):
    second, third = next_version(package, 2), next_version(package, 3)
    for version in (second, third):
        publish(version)
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        site("models", "approve", f"example {version}", "--key", tmp_path / "dr")
    assert chosen(site, tmp_path) == "3.0.0"
    done = site("models", "rollback", "example", "--key", tmp_path / "dr", "--comment", "3 misses the tail")
    assert "Example segmenter 2.0.0 is approved again" in done.stdout
    assert "Example segmenter 3.0.0 is superseded" in done.stdout
    assert chosen(site, tmp_path) == "2.0.0"
    site("models", "rollback", "example", "--key", tmp_path / "dr")
    assert chosen(site, tmp_path) == "1.0.0"
    site("models", "approve", "example 3.0.0", "--key", tmp_path / "dr")
    assert chosen(site, tmp_path) == "3.0.0"
    site("models", "rollback", "example", "--key", tmp_path / "dr", "--to", "1.0.0")
    assert chosen(site, tmp_path) == "1.0.0"
    with pytest.raises(UsageError, match=r"no version older than Example segmenter 1\.0\.0"):
        site("models", "rollback", "example", "--key", tmp_path / "dr")
    with pytest.raises(UsageError, match=r"no versions '9\.9'; there are 3\.0\.0, 2\.0\.0, 1\.0\.0"):
        site("models", "rollback", "example", "--key", tmp_path / "dr", "--to", "9.9")


def test_going_back_from_a_revoked_version(
    site: Run, package: ModelPackage, publish: Callable[[ModelPackage], None], tmp_path: Path
):
    """The approved version before it is in use by itself; where that was put behind, going back brings it forward."""
    for version in (next_version(package, 2), next_version(package, 3)):
        publish(version)
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        site("models", "approve", f"example {version}", "--key", tmp_path / "dr")
    site("models", "revoke", "example 3.0.0", "--key", tmp_path / "dr", "--reason", "wrong")
    assert chosen(site, tmp_path) == "2.0.0"
    site("models", "rollback", "example", "--key", tmp_path / "dr")
    site("models", "revoke", "example 1.0.0", "--key", tmp_path / "dr", "--reason", "wrong too")
    done = site("models", "rollback", "example", "--key", tmp_path / "dr")
    assert "2.0.0 is approved again" in done.stdout
    assert "no newer version was in use" in done.stdout
    assert (chosen(site, tmp_path), standing(site, "Example segmenter 2.0.0")["superseded"]) == ("2.0.0", False)


def test_going_back_never_approves_what_nobody_approved(
    site: Run, package: ModelPackage, publish: Callable[[ModelPackage], None], tmp_path: Path
):
    """Neither by itself nor when it is named: an approval is an act of its own."""
    publish(next_version(package, 2))
    site("models", "approve", "example 2.0.0", "--key", tmp_path / "dr")
    with pytest.raises(UsageError, match="is approved here"):
        site("models", "rollback", "example", "--key", tmp_path / "dr")
    with pytest.raises(UsageError, match=r"no approval of Example segmenter 1\.0\.0 counts here"):
        site("models", "rollback", "example", "--key", tmp_path / "dr", "--to", "1.0.0")
    assert chosen(site, tmp_path) == "2.0.0"
    assert said(site("models", "history", "example 1.0.0", "--json"))["statements"] == []


def test_going_back_keeps_the_limits_and_the_end_of_what_was_approved(
    site: Run, package: ModelPackage, publish: Callable[[ModelPackage], None], tmp_path: Path
):
    """An approval for MR until next year does not become one for everything and for ever."""
    limits = [("MR", f"{YEAR + 1}-06-30"), ("CT", f"{YEAR + 2}-06-30")]
    for modality, end in limits:
        words = ["models", "approve", "example 1.0.0", "--key", tmp_path / "dr"]
        site(*words, "--scope-modality", modality, "--expires", end)
    publish(next_version(package, 2))
    site("models", "approve", "example 2.0.0", "--key", tmp_path / "dr")
    before = said(site("models", "history", "example 1.0.0", "--json"))["statements"]
    done = said(site("models", "rollback", "example", "--key", tmp_path / "dr", "--json"))
    assert [one["kind"] for one in done] == ["approved", "approved", "superseded"]
    again = [(one["scope"], one["expires"]) for one in done[:2]]
    assert sorted(map(str, again)) == sorted(str((one["scope"], one["expires"])) for one in before)
    (old,) = [row for row in said(site("models", "list", "--json")) if row["name"].endswith("1.0.0")]
    assert (old["approval"], old["superseded"]) == ("approved", False)
    assert set(old["scope"].split(" or ")) == {"modality MR", "modality CT"}


def test_an_evaluation_names_its_report_and_figures(site: Run, tmp_path: Path):
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.4")
    words = ["models", "evaluate", "example", "--key", tmp_path / "dr", "--report", tmp_path / "report.pdf"]
    one = said(site(*words, "--result", "Dice = 0.88", "--json"))
    assert one["evidence"]["Dice"] == "0.88"
    assert one["evidence"]["report"] == "report.pdf"
    assert one["evidence"]["report sha256"].startswith("sha256:")
    assert standing(site)["approval"] == "not approved"
    with pytest.raises(UsageError, match="NAME=VALUE"):
        site(*words, "--result", "0.88")


def test_a_statement_that_cannot_be_read_is_told_everywhere(site: Run, tmp_path: Path):
    """It may be a revocation that was damaged: it neither stops the model nor goes unseen."""
    site("models", "approve", "example", "--key", tmp_path / "dr")
    archive = FolderArchive(tmp_path / "archive")
    before = {row.sop_uid for row in archive.find(Level.INSTANCE, Query())}
    site("models", "suspend", "example", "--key", tmp_path / "key", "--reason", "x" * 40)
    (uid,) = {row.sop_uid for row in archive.find(Level.INSTANCE, Query())} - before
    (stored,) = archive.instances(standing(site)["series"], [uid])
    archive.close()
    shutil.rmtree(tmp_path / "home" / "statements")
    shutil.rmtree(tmp_path / "home" / "cache")
    (file,) = (f for f in (tmp_path / "archive" / "objects").glob("*/*") if f.read_bytes() == stored.data)
    file.write_bytes(stored.data.replace(b'"kind":"suspended"', b'"kind":"suspende!"'))
    assert (standing(site)["approval"], standing(site)["unreadable"]) == ("approved", 1)
    listed = site("models", "list")
    assert "1 unreadable beside it" in listed.stdout
    assert "malformed" in listed.stderr
    assert "warning: " in site("models", "history", "example").stdout
    (broken,) = said(site("models", "history", "example", "--json"))["unreadable"]
    assert broken["instance"] == uid
    assert chosen(site, tmp_path) == "1.0.0"


def test_a_failed_golden_case_is_remembered_until_it_passes(
    site: Run, package: ModelPackage, publish: Callable[[ModelPackage], None], tmp_path: Path
):
    expected = {p.name: p for p in package.payloads}["golden-input.nii.gz"].data
    from residency.files.nifti import read_nifti, write_nifti

    volume = read_nifti(expected)
    wrong = write_nifti(volume.array < 0, volume.grid)
    payloads = [
        Payload(p.role, p.name, p.media_type, wrong if p.role == "golden/expected" else p.data)
        for p in package.payloads
    ]
    card = example_card({"parameters": 4, "tiling": {"window": [8, 8, 8], "overlap": 0.5}, "identity.family": "bad"})
    publish(build_package(card, payloads))
    for name in ("example", "bad"):
        site("models", "approve", name, "--key", tmp_path / "dr")
    with pytest.raises(AdmissionError, match="gives Dice"):
        site("models", "admit", "bad")
    row = standing(site, "bad")
    assert "gives Dice 0.0000" in row["problem"]
    assert "residency models admit" in row["problem"]
    assert "golden case failed" in site("models", "list").stdout
    assert "failed by this site, site" in site("models", "history", "bad").stdout
    assert chosen(site, tmp_path) == "1.0.0"
    passed = said(site("models", "admit", "example", "--json"))
    assert passed["dice hippocampus"] == "1.000000"
    assert passed["cpu"]
    assert standing(site)["admitted"]


def test_lineage_is_a_tree_in_text_json_and_svg(
    site: Run, package: ModelPackage, publish: Callable[[ModelPackage], None], tmp_path: Path
):
    second = next_version(package, 2, supersedes=package.digest)
    small = next_version(
        package,
        1,
        **{
            "identity.family": "example-small",
            "lineage": [{"relation": "quantised-from", "parent": second.digest}],
        },
    )
    adopted = next_version(
        package,
        1,
        **{
            "identity.family": "adopted",
            "identity.name": "<script>alert(1)</script>",
            "lineage": [{"relation": "fine-tuned-from", "parent": "sha256:" + "e" * 64}],
        },
    )
    for version in (second, small, adopted):
        publish(version)
    site("models", "approve", "example 2.0.0", "--key", tmp_path / "dr")
    text = site("models", "lineage").stdout.splitlines()
    assert [line.split("  ")[0].rstrip() if "─" not in line else line[: line.index("  ", 6)] for line in text] == [
        "example 1.0.0",
        "└─ example 2.0.0 supersedes",
        "   └─ example-small 1.0.0 quantised-from",
        "eeeeeeeeeeee (not in this archive)",
        "└─ adopted 1.0.0 fine-tuned-from",
    ]
    assert "approved by Dr A" in text[1]
    assert len(site("models", "lineage", "example-small").stdout.splitlines()) == 3
    data = said(site("models", "lineage", "--json"))
    assert [row["parent"] for row in data] == [None, package.digest, second.digest, None, "sha256:" + "e" * 64]
    site("models", "lineage", "--svg", tmp_path / "tree.svg")
    drawn = ET.fromstring((tmp_path / "tree.svg").read_text("utf-8"))
    texts = [e.text for e in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "example 2.0.0 supersedes" in texts
    assert {e.tag.split("}")[1] for e in drawn.iter()} == {"svg", "title", "rect", "circle", "path", "text"}
    with pytest.raises(UsageError, match="no family"):
        site("models", "lineage", "nothing")


def test_a_key_is_replaced_and_what_it_signed_goes_on(
    site: Run, package: ModelPackage, folder: Path, publish: Callable[[ModelPackage], None], tmp_path: Path
):
    """Nothing new counts from the old key, nothing seen is lost, and the new key speaks for the same person."""
    site("models", "approve", "example", "--key", tmp_path / "dr")
    ids = {row["name"]: row["key_id"] for row in said(site("trust", "list", "--json"))}
    for name, key in (("key", "Acme"), ("dr", "Dr A")):
        site("trust", "new-key", tmp_path / f"{name}2")
        site("trust", "rotate", ids[key], tmp_path / f"{name}2.pub")
    assert "retired" in site("trust", "list").stdout
    assert chosen(site, tmp_path) == "1.0.0"

    publish(next_version(package, 2))  # signed with the retired key
    (late,) = [row for row in said(site("models", "list", "--json")) if row["name"].endswith("2.0.0")]
    assert late["error"] == "UntrustedKeyError"
    assert "was retired on" in late["problem"]
    with pytest.raises(UsageError, match=r"would not count here: .*was retired"):
        site("models", "approve", "example 1.0.0", "--key", tmp_path / "dr")

    site("models", "suspend", "example 1.0.0", "--key", tmp_path / "key2", "--reason", "by its holder's new key")
    assert standing_of(site, "1.0.0") == "suspended"
    with pytest.raises(ConflictError):
        site("models", "publish", folder, "--key", tmp_path / "key2")


def standing_of(run: Run, version: str) -> str:
    (row,) = [row for row in said(run("models", "list", "--json")) if row["name"].endswith(version)]
    return str(row["approval"])


def test_a_retired_key_may_still_withdraw(site: Run, tmp_path: Path):
    """A warning that was signed before and arrives late must not be lost; whoever stole the key can only say less."""
    site("models", "approve", "example", "--key", tmp_path / "dr")
    site("trust", "new-key", tmp_path / "dr2")
    (dr,) = [row["key_id"] for row in said(site("trust", "list", "--json")) if row["name"] == "Dr A"]
    site("trust", "rotate", dr, tmp_path / "dr2.pub")
    site("models", "revoke", "example", "--key", tmp_path / "dr", "--reason", "late")
    assert standing(site)["approval"] == "revoked"


def test_what_lies_in_a_forgotten_archive_is_kept_by_rotating_again(site: Run, tmp_path: Path):
    shutil.copytree(tmp_path / "archive", tmp_path / "other")
    site("models", "approve", "example", "--key", tmp_path / "dr", "--archive", tmp_path / "other")
    site("trust", "new-key", tmp_path / "dr2")
    (dr,) = [row["key_id"] for row in said(site("trust", "list", "--json")) if row["name"] == "Dr A"]
    site("trust", "rotate", dr, tmp_path / "dr2.pub")

    def approval() -> str:
        (row,) = said(site("models", "list", "--archive", tmp_path / "other", "--json"))
        return str(row["approval"])

    assert approval() == "not approved"
    site("trust", "rotate", dr, tmp_path / "dr2.pub", "--archive", tmp_path / "other")
    assert approval() == "approved"
    with pytest.raises(UsageError, match="was replaced by"):
        site("trust", "rotate", dr, tmp_path / "key.pub")
    listed = said(site("trust", "list", "--json"))
    (new,) = [row["key_id"] for row in listed if row["name"] == "Dr A" and row["key_id"] != dr]
    with pytest.raises(UsageError, match="the old one, or was retired"):
        site("trust", "rotate", new[:30], tmp_path / "dr.pub")
    with pytest.raises(UsageError, match="was retired here"):
        site("trust", "add", tmp_path / "dr.pub", "--role", "approver", "--name", "Dr A")


def test_removing_a_key_ends_all_that_it_signed(site: Run, tmp_path: Path):
    site("models", "approve", "example", "--key", tmp_path / "dr")
    (dr,) = [row["key_id"] for row in said(site("trust", "list", "--json")) if row["name"] == "Dr A"]
    site("trust", "remove", dr)
    assert standing(site)["approval"] == "not approved"
    assert "does not count: it is signed with the key" in site("models", "history", "example").stdout


def test_statements_are_only_ever_added(site: Run, tmp_path: Path):
    archive = FolderArchive(tmp_path / "archive")

    def held() -> dict[str, bytes]:
        series = standing(site)["series"]
        return {i.uid: i.data for i in archive.instances(series)}

    seen = held()
    for words in (["approve"], ["restrict", "--scope-modality", "MR"], ["suspend", "--reason", "x"]):
        site("models", words[0], "example", "--key", tmp_path / "dr", *words[1:])
        now = held()
        assert now.items() > seen.items()
        assert len(now) == len(seen) + 1
        seen = now


@pytest.mark.parametrize(
    "name", ["approve", "restrict", "suspend", "revoke", "evaluate", "rollback", "admit", "history", "lineage"]
)
def test_every_command_explains_itself(name: str, site: Run):
    assert name in site("models", "--help").stdout
    assert site("models", name, "--help").exit_code == 0
