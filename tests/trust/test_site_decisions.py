"""What a site has decided lies on its disk: whole or not at all, whoever writes, and nothing is trusted by default."""

from __future__ import annotations

import datetime as dt
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from residency.errors import ConfigError, UsageError
from residency.models import Admission
from residency.site import Site, new_file
from residency.standing import Approval, Standing
from residency.testing.cards import example_package
from residency.trust import (
    Kind,
    Role,
    RunsOn,
    SignedStatement,
    SigningKey,
    Statement,
    TrustedKey,
    TrustStore,
    judge,
    sign_statement,
)

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
DIGEST = "sha256:" + "1" * 64
RUNS_ON = RunsOn("OpenVINO 1 CPU", "f32")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "home")


def trusted(key: SigningKey, *roles: Role, name: str = "Somebody") -> TrustedKey:
    return TrustedKey(key.public, frozenset(roles), name, NOW)


def revoked_by(key: SigningKey, role: Role = Role.APPROVER) -> SignedStatement:
    return sign_statement(Statement(kind=Kind.REVOKED, subject=DIGEST, issuer=key.key_id, role=role, issued=NOW), key)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_fresh_installation_trusts_nobody_and_writes_nothing(site: Site):
    assert site.trust() == TrustStore()
    assert site.statements() == ()
    assert site.rules_approval(DIGEST) is None
    assert not site.home.exists()


def test_keys_are_kept_with_roles_and_name(site: Site):
    key = SigningKey.new()
    site.add_key(trusted(key, Role.PUBLISHER, name="Ä publisher"))
    assert site.trust().keys == (trusted(key, Role.PUBLISHER, name="Ä publisher"),)
    site.add_key(trusted(key, Role.APPROVER, name="Renamed"))
    assert site.trust().keys == (trusted(key, Role.PUBLISHER, Role.APPROVER, name="Renamed"),)
    site.remove_key(key.key_id)
    assert site.trust() == TrustStore()
    with pytest.raises(UsageError):
        site.remove_key(key.key_id)


@pytest.mark.parametrize("roles", [(), (Role.SITE,), (Role.PUBLISHER, Role.SITE)])
def test_no_key_is_added_as_the_sites_own(site: Site, roles: tuple[Role, ...]):
    """Whoever signs as the site admits models: only the key made here may."""
    with pytest.raises(UsageError):
        site.add_key(trusted(SigningKey.new(), *roles))


def test_a_file_that_claims_the_sites_role_is_not_believed(site: Site):
    key = SigningKey.new()
    site.add_key(trusted(key, Role.PUBLISHER))
    (file,) = (site.home / "trusted").glob("*.json")
    file.write_text(file.read_text().replace('"publisher"', '"site"'))
    assert Role.SITE not in site.trust().keys[0].roles


def test_the_sites_key_is_private_and_made_once(site: Site):
    key = site.own_key()
    assert site.own_key().key_id == key.key_id
    assert mode(site.home / "site.key") == 0o600
    assert mode(site.home) == 0o700
    assert site.trust().keys[0].roles == {Role.SITE}


def test_a_damaged_site_key_is_an_error_and_not_replaced(site: Site):
    site.own_key()
    (site.home / "site.key").write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match=r"site\.key"):
        site.own_key()
    assert (site.home / "site.key").read_bytes() == b"nonsense"


def test_every_decision_is_readable_by_its_owner_only(site: Site):
    site.add_key(trusted(SigningKey.new(), Role.PUBLISHER))
    site.admit(Admission(DIGEST, RUNS_ON, {"liver": 1.0}), NOW)
    site.approve_rules(DIGEST, by="Dr Who", now=NOW)
    files = [path for path in site.home.rglob("*") if path.is_file()]
    assert len(files) == 4
    assert {mode(path) for path in files} == {0o600}


@pytest.mark.parametrize("first", ["index", "packages", "decision"])
def test_whatever_makes_the_home_first_makes_it_for_its_owner_alone(tmp_path: Path, first: str):
    """A home that others can write to lets them exchange the keys in it, whatever the modes of the files are."""
    site = Site(tmp_path / "share" / "home")
    before = os.umask(0o002)
    try:
        if first == "index":
            site.index.load("archive")
        elif first == "packages":
            site.packages.put(example_package())
        else:
            site.add_key(trusted(SigningKey.new(), Role.PUBLISHER))
    finally:
        os.umask(before)
    folders = [site.home.parent, site.home, *(p for p in site.home.rglob("*") if p.is_dir())]
    assert len(folders) >= 3
    assert {mode(folder) for folder in folders} == {0o700}


def test_a_private_key_file_is_never_overwritten(tmp_path: Path):
    new_file(tmp_path / "key", b"first")
    with pytest.raises(FileExistsError):
        new_file(tmp_path / "key", b"second")
    assert (tmp_path / "key").read_bytes() == b"first"
    assert [p.name for p in tmp_path.iterdir()] == ["key"]


def test_an_admission_is_found_again_and_only_for_its_engine(site: Site):
    site.admit(Admission(DIGEST, RUNS_ON, {"liver": 0.9999}), NOW)
    again = Site(site.home)

    def admitted(runs_on: RunsOn) -> bool:
        standing = Standing(DIGEST, "Publisher")
        return judge(standing, again.statements(), again.trust(), now=NOW, runs_on=runs_on).admitted

    assert admitted(RUNS_ON)
    assert not admitted(RunsOn("OpenVINO 2 CPU", "f32"))


def test_admissions_of_another_site_are_not_believed(site: Site, tmp_path: Path):
    """A copied statement file admits nothing: it is signed with a key that is not this site's."""
    elsewhere = Site(tmp_path / "elsewhere")
    site.own_key()
    site.keep(elsewhere.admit(Admission(DIGEST, RUNS_ON, {}), NOW))
    assert not judge(Standing(DIGEST, "P"), site.statements(), site.trust(), now=NOW, runs_on=RUNS_ON).admitted


def test_a_revocation_is_remembered_when_it_is_deleted_in_the_archive(site: Site):
    approver = SigningKey.new()
    site.add_key(trusted(approver, Role.APPROVER))
    assert site.remember([revoked_by(approver)]) == 1
    assert site.remember([revoked_by(approver)]) == 0
    standing = judge(Standing(DIGEST, "P"), Site(site.home).statements(), site.trust(), now=NOW)
    assert standing.approval is Approval.REVOKED


def test_only_withdrawals_of_trusted_people_are_remembered(site: Site):
    """Otherwise whoever can store into the archive could fill this disk."""
    approver, stranger = SigningKey.new(), SigningKey.new()
    site.add_key(trusted(approver, Role.APPROVER))
    approved = sign_statement(
        Statement(kind=Kind.APPROVED, subject=DIGEST, issuer=approver.key_id, role=Role.APPROVER, issued=NOW), approver
    )
    assert site.remember([revoked_by(stranger), approved]) == 0
    assert site.statements() == ()


def test_approval_of_rules_covers_exactly_their_digest(site: Site):
    site.approve_rules(DIGEST, by="Dr Who", now=NOW)
    found = site.rules_approval(DIGEST)
    assert found is not None
    assert found.evidence["by"] == "Dr Who"
    assert site.rules_approval("sha256:" + "2" * 64) is None


def test_an_approval_of_rules_that_was_renamed_or_edited_does_not_count(site: Site):
    site.approve_rules(DIGEST, by="Dr Who", now=NOW)
    (file,) = (site.home / "rules").glob("*.json")
    other = "2" * 64
    (site.home / "rules" / f"{other}.json").write_bytes(file.read_bytes())
    assert site.rules_approval(f"sha256:{other}") is None
    file.write_text(file.read_text().replace("Dr Who", "Dr Why"))
    assert site.rules_approval(DIGEST) is None


def test_an_approval_of_rules_approves_no_model(site: Site):
    """The same digest as subject: a rule file's approval must not be taken for a model's."""
    signed = site.approve_rules(DIGEST, by="Dr Who", now=NOW)
    assert judge(Standing(DIGEST, "P"), [signed], site.trust(), now=NOW).approval is Approval.NONE


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"text": 1}', b"\xff\xfe"])
@pytest.mark.parametrize("folder", ["trusted", "statements"])
def test_a_damaged_decision_is_named_and_never_taken_for_none(site: Site, folder: str, data: bytes):
    """It may be the revocation of a model, or the key of the person who signed it: without it the model would run."""
    site.admit(Admission(DIGEST, RUNS_ON, {}), NOW)
    site.add_key(trusted(SigningKey.new(), Role.PUBLISHER))
    (site.home / folder / "0.json").write_bytes(data)
    with pytest.raises(ConfigError, match=rf"{folder}/0\.json of this site is damaged"):
        site.trust() if folder == "trusted" else site.statements()


def test_whoever_removes_a_key_hears_which_withdrawals_end_with_it(site: Site):
    key = SigningKey.new()
    site.add_key(trusted(key, Role.APPROVER))
    site.keep(revoked_by(key))
    assert site.remove_key(key.key_id) == (DIGEST,)


def test_a_disk_that_cannot_keep_the_sites_key_is_said(site: Site, monkeypatch: pytest.MonkeyPatch):
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")  # as a disk in a FAT format answers

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(ConfigError, match=r"cannot be kept in .*: Operation not permitted"):
        site.own_key()


_DECIDE = """
import datetime as dt, sys
from pathlib import Path
from residency.models import Admission
from residency.site import Site
from residency.trust import Role, RunsOn, SigningKey, TrustedKey
site, number, now = Site(Path(sys.argv[1])), int(sys.argv[2]), dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
print("ready", flush=True)
sys.stdin.readline()
site.own_key()
site.add_key(TrustedKey(SigningKey.new().public, frozenset({Role.PUBLISHER}), f"writer {number}", now))
site.admit(Admission(f"sha256:{number:064x}", RunsOn("OpenVINO 1 CPU", "f32"), {}), now)
"""


def test_processes_decide_at_once_and_nothing_is_lost(site: Site):
    """All share one key of the site, whoever made it first."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _DECIDE, str(site.home), str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for n in range(4)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
    for worker in workers:
        worker.communicate(b"go\n", timeout=60)
    assert [worker.returncode for worker in workers] == [0] * 4
    assert sum(Role.PUBLISHER in key.roles for key in site.trust().keys) == 4
    assert {s.signature.key_id for s in site.statements()} == {site.own_key().key_id}
    assert len(site.statements()) == 4
    assert not list(site.home.rglob(".incoming-*"))


def test_a_home_that_cannot_be_made_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="home"):
        Site(tmp_path / "file" / "home").own_key()
