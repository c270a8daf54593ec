"""`residency models` and `residency trust` as a person uses them: one line where something is wrong, JSON."""

from __future__ import annotations

import base64
import io
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian

from residency.archives.folder import FolderArchive
from residency.dicom.model_object import manifest_uid_of, series_uid_of
from residency.errors import PackageError, ResidencyError, UsageError
from residency.models import read_folder, write_folder
from residency.package import ModelPackage
from residency.site import Site
from residency.trust import SigningKey, public_pem

Run = Callable[..., Result]


def test_a_fresh_site_trusts_nobody_and_says_how_to_change_that(run: Run):
    assert "residency trust add" in run("trust", "list").stdout
    assert json.loads(run("trust", "list", "--json").stdout) == []


def test_a_new_key_is_private_and_never_replaced(run: Run, tmp_path: Path):
    run("trust", "new-key", tmp_path / "key")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert b"PRIVATE" not in (tmp_path / "key.pub").read_bytes()
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(UsageError, match="there already"):
        run("trust", "new-key", tmp_path / "key")
    (tmp_path / "key.pub").unlink()
    with pytest.raises(UsageError, match="never replaced"):
        run("trust", "new-key", tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before


def test_keys_are_added_listed_and_removed(run: Run, tmp_path: Path):
    run("trust", "new-key", tmp_path / "key")
    run("trust", "add", tmp_path / "key.pub", "--role", "publisher", "--role", "approver", "--name", "Dr A")
    (row,) = json.loads(run("trust", "list", "--json").stdout)
    assert (row["name"], row["roles"]) == ("Dr A", ["approver", "publisher"])
    assert "Dr A" in run("trust", "list").stdout
    run("trust", "remove", row["key_id"])
    assert json.loads(run("trust", "list", "--json").stdout) == []


def test_a_key_is_removed_by_how_it_begins(run: Run, tmp_path: Path):
    for name in ("one", "two"):
        run("trust", "new-key", tmp_path / name)
        run("trust", "add", tmp_path / f"{name}.pub", "--role", "publisher", "--name", name)
    ids = {row["name"]: row["key_id"] for row in json.loads(run("trust", "list", "--json").stdout)}
    for several in ("sha256:", ""):
        with pytest.raises(UsageError, match="is not trusted here"):
            run("trust", "remove", several)
    assert len(json.loads(run("trust", "list", "--json").stdout)) == 2
    said = run("trust", "remove", ids["one"].removeprefix("sha256:")[:20]).stdout
    assert ids["one"] in said
    with pytest.raises(UsageError, match="is not trusted here"):
        run("trust", "remove", ids["one"][:20])
    run("trust", "remove", ids["two"][:20])
    assert json.loads(run("trust", "list", "--json").stdout) == []


def test_a_beginning_that_fits_two_keys_removes_neither(run: Run, tmp_path: Path):
    seen: dict[str, str] = {}
    for n in range(17):  # seventeen ids, sixteen first digits
        key = SigningKey.new()
        (tmp_path / "pub").write_bytes(public_pem(key.public))
        run("trust", "add", tmp_path / "pub", "--role", "publisher", "--name", f"key {n}")
        first = key.key_id[:8]
        if first in seen:
            break
        seen[first] = key.key_id
    before = run("trust", "list", "--json").stdout
    with pytest.raises(UsageError, match=r"2 keys begin with .*give more of it"):
        run("trust", "remove", first)
    assert run("trust", "list", "--json").stdout == before


def test_the_sites_own_key_was_trusted_by_nobody(run: Run, tmp_path: Path):
    own = Site(tmp_path / "home").own_key()
    (row,) = json.loads(run("trust", "list", "--json").stdout)
    assert (row["key_id"], row["roles"], row["since"]) == (own.key_id, ["site"], None)
    with pytest.raises(UsageError, match="is not trusted here"):
        run("trust", "remove", own.key_id)


def test_a_private_key_or_an_unknown_role_is_refused(run: Run, tmp_path: Path):
    run("trust", "new-key", tmp_path / "key")
    with pytest.raises(UsageError, match="secret"):
        run("trust", "add", tmp_path / "key", "--role", "publisher", "--name", "A")
    for role in ("site", "admin", ""):
        with pytest.raises(UsageError, match="publisher"):
            run("trust", "add", tmp_path / "key.pub", "--role", role, "--name", "A")
    with pytest.raises(UsageError, match="cannot be read"):
        run("trust", "add", tmp_path / "none", "--role", "publisher", "--name", "A")
    for name in ("", "a\x1b[31m"):
        with pytest.raises(UsageError, match="--name"):
            run("trust", "add", tmp_path / "key.pub", "--role", "publisher", "--name", name)


def test_an_untrusted_model_is_listed_with_the_reason(run: Run, folder: Path, tmp_path: Path):
    run("trust", "new-key", tmp_path / "key")
    run("models", "publish", folder, "--key", tmp_path / "key")
    (row,) = json.loads(run("models", "list", "--json").stdout)
    assert row["publisher"] is None
    assert row["error"] == "UntrustedKeyError"
    assert "residency trust add" in row["problem"]
    shown = run("models", "list").stdout
    assert "publisher not trusted" in shown
    assert f"{row['digest'].removeprefix('sha256:')[:12]}: {row['problem']}" in shown.splitlines()
    refused = run("models", "verify", "--json")
    assert refused.exit_code == 12
    assert json.loads(refused.stdout)[0]["error"] == "UntrustedKeyError"


def test_a_published_model_is_listed_inspected_and_verified(published: Run, package: ModelPackage):
    (row,) = json.loads(published("models", "list", "--json").stdout)
    assert (row["digest"], row["publisher"], row["problem"]) == (package.digest, "Acme", None)
    assert (row["series"], row["manifest"]) == (series_uid_of(package.digest), manifest_uid_of(package.digest))
    assert (row["approval"], row["admitted"]) == ("not approved", False)
    assert all(key.isidentifier() for key in row)
    assert "graph.onnx" in published("models", "inspect", "example").stdout
    verified = published("models", "verify", "--golden", "example")
    assert verified.exit_code == 0
    assert "golden case: Dice 1.0000 for hippocampus" in verified.stdout


def test_the_list_of_models_can_be_read_on_a_narrow_screen(
    published: Run, package: ModelPackage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    shown = published("models", "list").stdout
    (line,) = (line for line in shown.splitlines() if "Example segmenter" in line)
    for cell in ("1.0.0", package.digest.removeprefix("sha256:")[:12], "not approved, not admitted yet"):
        assert cell in line
    assert "--allow-unapproved" in shown.splitlines()[-1]


def test_verify_reads_the_archive_and_not_what_was_kept_of_it(published: Run, package: ModelPackage, tmp_path: Path):
    """The local index answers for a manifest that was read before; whoever verifies wants to know of today's bytes."""
    assert published("models", "verify").exit_code == 0
    (stored,) = (f for f in (tmp_path / "archive" / "objects").glob("*/*") if package.manifest.text in f.read_bytes())
    stored.write_bytes(stored.read_bytes().replace(b'"seed":0', b'"seed":1'))
    verified = published("models", "verify", "--json")
    assert verified.exit_code == 12
    assert json.loads(verified.stdout)[0]["error"] == "SignatureError"


def test_publishing_again_says_what_was_there(published: Run, folder: Path, tmp_path: Path):
    again = json.loads(published("models", "publish", folder, "--key", tmp_path / "key", "--json").stdout)
    assert (again["stored"], again["present"]) == (0, 5)


def test_the_card_is_a_page_json_or_pdf(published: Run, folder: Path, tmp_path: Path):
    page = published("models", "card", "example").stdout
    assert "Research use only. Not a medical device." in page
    assert page == published("models", "card", folder).stdout
    assert json.loads(published("models", "card", "example", "--json").stdout)["identity"]["family"] == "example"
    published("models", "card", "example", "--pdf", tmp_path / "card.pdf")
    assert (tmp_path / "card.pdf").read_bytes().startswith(b"%PDF")


def test_what_is_exported_is_the_package(published: Run, package: ModelPackage, tmp_path: Path):
    published("models", "export", "example", tmp_path / "out")
    assert read_folder(tmp_path / "out") == package
    assert published("models", "verify", tmp_path / "out").exit_code == 0


def test_a_damaged_package_folder_is_refused(run: Run, folder: Path):
    graph = bytearray((folder / "graph.onnx").read_bytes())
    graph[9] ^= 1
    (folder / "graph.onnx").write_bytes(graph)
    result = run("models", "verify", folder)
    assert result.exit_code == 12
    assert "REFUSED" in result.stdout
    assert "graph.onnx" in result.stdout


@pytest.mark.parametrize("command", ["inspect", "card", "verify"])
def test_an_unknown_model_is_said(command: str, published: Run):
    with pytest.raises(UsageError, match="no model 'nothing'"):
        published("models", command, "nothing")


def test_no_archive_is_made_by_looking(run: Run, tmp_path: Path):
    with pytest.raises(UsageError, match="is no archive"):
        run("models", "list")
    assert not (tmp_path / "archive").exists()


def test_publishing_what_is_no_package_is_refused(run: Run, tmp_path: Path):
    run("trust", "new-key", tmp_path / "key")
    with pytest.raises(PackageError, match=r"manifest\.json"):
        run("models", "publish", tmp_path, "--key", tmp_path / "key")
    with pytest.raises(ResidencyError):
        run("models", "publish", tmp_path / "none", "--key", tmp_path / "key")


def test_single_files_of_a_model_are_inspected(published: Run, package: ModelPackage, tmp_path: Path):
    archive = FolderArchive(tmp_path / "archive")
    seen = set()
    for instance in archive.instances(series_uid_of(package.digest)):
        file = tmp_path / "one.dcm"
        file.write_bytes(instance.data)
        found = json.loads(published("models", "inspect", file, "--json").stdout)
        assert found["digest"] == package.digest
        seen.add(found["kind"])
    assert seen == {"part", "manifest"}


def test_a_legacy_file_is_reported_and_refused(run: Run, tmp_path: Path):
    ds = Dataset()
    ds.SOPClassUID = ds.SOPInstanceUID = ds.StudyInstanceUID = ds.SeriesInstanceUID = "2.25.1"
    ds.add_new((0x0017, 0x0016), "UT", "{}")
    ds.add_new((0x0017, 0x0018), "UT", base64.b64encode(b"\x80\x02}q\x00.").decode())
    ds.add_new((0x0017, 0x0020), "ST", "unet_mri")
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    out = io.BytesIO()
    ds.save_as(out, implicit_vr=True, little_endian=True, enforce_file_format=True)
    (tmp_path / "legacy.dcm").write_bytes(out.getvalue())
    result = run("models", "inspect", tmp_path / "legacy.dcm")
    assert result.exit_code == 12
    for said in ("IODeep", "unet_mri", "bare pickle", "refused"):
        assert said in result.stdout


def test_building_writes_the_manifest(run: Run, package: ModelPackage, tmp_path: Path):
    made = tmp_path / "made"
    write_folder(made, package)
    (made / "manifest.json").unlink()
    (made / "licence.txt").write_text("free")
    (made / "card.yaml").write_text(package.card.model_dump_json())
    built = json.loads(run("models", "build", made, "--json").stdout)
    assert read_folder(made).digest == built["digest"]
    assert run("models", "build", made, "--output", tmp_path / "out").stdout.strip().endswith(built["digest"])
    assert read_folder(tmp_path / "out").digest == built["digest"]


@pytest.mark.parametrize("words", [["models"], ["trust"]])
def test_help_lists_every_command(words: list[str], run: Run):
    said = run(*words, "--help").stdout
    for name in {"models": ("list", "inspect", "card", "publish", "export", "verify", "build")}.get(
        words[0], ("list", "add", "remove", "new-key")
    ):
        assert name in said
        assert run(*words, name, "--help").exit_code == 0
