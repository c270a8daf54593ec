"""A real Orthanc with authentication on, behind the fence: what the doors to an archive are proven against."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from residency.settings import ArchiveSettings
from residency.testing.fence import NoFenceError, fenced, free_port

_PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
_WEB, _DICOM = 8042, 4242
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Orthanc:
    """One running Orthanc.

    web_url     its REST interface; DICOMweb stands below it at /dicom-web
    dicom_port  DIMSE on 127.0.0.1; called AE title ORTHANC, known caller RESIDENCY
    move_port   where it sends what is moved to RESIDENCY
    password    a file that holds the password of the user "residency"
    """

    web_url: str
    dicom_port: int
    move_port: int
    password: Path = field(repr=False)

    def by_web(self, **changes: Any) -> ArchiveSettings:
        """Its settings as a DICOMweb archive."""
        settings = {"url": f"{self.web_url}/dicom-web", "user": "residency", "password_file": self.password}
        return ArchiveSettings.model_validate(settings | changes)

    def by_dimse(self, **changes: Any) -> ArchiveSettings:
        """Its settings as a DIMSE archive."""
        settings = {"url": f"dimse://127.0.0.1:{self.dicom_port}/ORTHANC", "move_port": self.move_port}
        return ArchiveSettings.model_validate(settings | changes)

    def rest(self) -> httpx.Client:
        """A client of its REST interface, logged in."""
        login = ("residency", self.password.read_text(encoding="ascii").strip())
        return httpx.Client(base_url=self.web_url, auth=login, trust_env=False, timeout=_PATIENCE_S)

    def clear(self) -> None:
        """Delete everything that it holds."""
        with self.rest() as client:
            for patient in client.get("/patients").raise_for_status().json():
                client.delete(f"/patients/{patient}").raise_for_status()


def why_not() -> str | None:
    """Why no Orthanc can be started on this machine; None where one can."""
    if shutil.which("Orthanc") is None:
        return "Orthanc missing: apt install orthanc"
    return None if Path(_PLUGIN).exists() else "its DICOMweb plugin is missing: apt install orthanc-dicomweb"


@contextmanager
def running_orthanc(**configuration: Any) -> Iterator[Orthanc]:
    """An empty Orthanc until the block ends. configuration: keys of its own configuration that differ from ours.

    Raises NoFenceError where it cannot be started safely.
    """
    missing = why_not()
    if missing is not None:
        raise NoFenceError(missing)
    with tempfile.TemporaryDirectory(prefix="orthanc-") as name:
        folder = Path(name)
        password = folder / "password"
        password.write_text(secrets.token_urlsafe(16), encoding="ascii")
        move_port = free_port()
        settings = _configuration(folder, password.read_text(encoding="ascii"), move_port) | configuration
        (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
        log = folder / "orthanc.log"
        command = ["Orthanc", str(folder / "orthanc.json")]
        with fenced(command, doors=[_WEB, _DICOM], ways_out=[move_port], log=log) as ports:
            orthanc = Orthanc(f"http://127.0.0.1:{ports[_WEB]}", ports[_DICOM], move_port, password)
            _wait(orthanc, log)
            yield orthanc


def _configuration(folder: Path, password: str, move_port: int) -> dict[str, Any]:
    return {
        "Name": "Residency's tests",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [_PLUGIN],
        "HttpPort": _WEB,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"residency": password},
        "DicomPort": _DICOM,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowEcho": False,
        "DicomAlwaysAllowStore": False,
        "DicomModalities": {"residency": ["RESIDENCY", "127.0.0.1", move_port]},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }


def _wait(orthanc: Orthanc, log: Path) -> None:
    end = time.monotonic() + _PATIENCE_S
    with orthanc.rest() as client:
        while True:
            try:
                client.get("/dicom-web/studies", params={"limit": "1"}).raise_for_status()
            except httpx.HTTPError:
                if time.monotonic() > end:
                    said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
                    raise NoFenceError(f"Orthanc did not start: {said}") from None
                time.sleep(0.05)
            else:
                return
