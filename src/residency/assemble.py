"""Settings -> archives, engine, site, house: the only place that chooses adapters."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from residency.archive import Archive
from residency.engine import Engine
from residency.errors import AdmissionError, ConfigError, UsageError
from residency.models import KnownModel, Library, ModelIndex, fetch, find_models
from residency.models.admit import Admission, admit, runs_on
from residency.package import ModelPackage
from residency.pipeline import House, replay
from residency.pipeline.forms import ResultForms, forms_for
from residency.selection import Candidate, CandidateTable, RuleSet, parse_rules, shipped_rules
from residency.settings import ArchiveSettings, Settings
from residency.site import Site

RULES_FILE = "label_rules.toml"
"""The site's own label rules, below its home; they come before those that ship."""


ARCHIVE_MARK = "residency-archive"
"""The file in a folder that makes it an archive."""


class Role(StrEnum):
    """What an archive is for; one archive may be all three."""

    IMAGES = "images"
    MODELS = "models"
    RESULTS = "results"


def archive_settings(named: str | Path | None, settings: Settings, role: Role | None = None) -> ArchiveSettings:
    """The archive that a command names (a name from the settings, a role, a path, a URL), else the one of its role.

    A URL that a table of the settings describes means that table, with its credentials.

    Raises UsageError where none is named, or a name that nobody gave; ConfigError where what is named cannot be an
    archive.
    """
    if isinstance(named, str) and named in list(Role) and named not in settings.archives:
        named = getattr(settings, named) or named
    given = str(named) if named is not None else (getattr(settings, role) if role else None) or settings.archive
    if not given:
        raise UsageError("no archive is named: give --archive PATH, or set 'archive' in the settings")
    if given in settings.archives:
        return settings.archives[given]
    described = sorted(name for name, one in settings.archives.items() if one.url.rstrip("/") == given.rstrip("/"))
    if len(described) > 1:
        raise UsageError(f"{given} is described by more than one table: name one of {', '.join(described)}")
    if described:
        return settings.archives[described[0]]
    if not isinstance(named, Path):
        _check_no_name(given, settings)
    try:
        return ArchiveSettings(url=given)
    except ValidationError as error:
        said = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise UsageError(f"the archive that is named cannot be used: {said}") from None


def _check_no_name(given: str, settings: Settings) -> None:
    """A bare word is a name: one that was mistyped must not become a folder of patients' images.

    An archive that is there under such a path goes on being one.
    """
    if any(mark in given for mark in "/\\") or given[0] in ".~" or (Path(given) / ARCHIVE_MARK).is_file():
        return
    near = get_close_matches(given, settings.archives, n=1)
    known = f"known are {', '.join(sorted(settings.archives))}" if settings.archives else "none has a name there"
    raise UsageError(
        f"no archive of the settings is called {given!r}: {f'did you mean {near[0]!r}?' if near else known + '.'} "
        f"To mean a folder, give a path such as ./{given}"
    )


def open_archive(
    named: str | Path | None,
    settings: Settings,
    *,
    role: Role | None = None,
    create: bool = True,
    trusting: bool = False,
) -> Archive:
    """The archive that is named, else the one of the role, else the archive of the settings.

    trusting  whatever its settings say, do not read back what is stored in it

    Raises UsageError where none is named, where the kind of URL is not known, where a path is a file, or where `create`
    is False and no folder archive is there. Whether a server answers is seen when it is asked.
    """
    described = archive_settings(named, settings, role)
    if trusting:
        described = described.model_copy(update={"read_back": False})
    parts = urlsplit(described.url)
    scheme = parts.scheme if "://" in described.url else "file"
    if scheme in ("http", "https"):
        from residency.archives.dicomweb import DicomWeb

        return DicomWeb(described)
    if scheme in ("dimse", "dimses"):
        from residency.archives.dimse import Dimse

        return Dimse(described)
    if scheme != "file":
        raise UsageError(
            f"{scheme}:// archives are not known: name a folder, http(s)://HOST/PATH (DICOMweb) or "
            "dimse(s)://HOST:PORT/AE_TITLE"
        )
    path = Path(unquote(parts.path) if "://" in described.url else described.url).expanduser()
    return _open_folder(path, create=create)


def _open_folder(path: Path, *, create: bool) -> Archive:
    if path.is_file():
        raise UsageError(f"{path} is a file; an archive is a folder")
    if not create and not (path / ARCHIVE_MARK).exists():
        if path.is_dir() and any(path.iterdir()):
            raise UsageError(f"{path} is no archive of Residency but holds other files: name another folder")
        raise UsageError(f"{path} is no archive; 'residency archive import FILES --archive {path}' makes one")
    from residency.archives.folder import FolderArchive

    return FolderArchive(path)


@dataclass(frozen=True)
class Archives:
    """The archives of a site by role; a name that stands for several roles is opened once.

    forms  which objects results become in the archive that takes them
    """

    images: Archive
    models: Archive
    results: Archive
    forms: ResultForms

    def close(self) -> None:
        """Close each of them."""
        for archive in {id(a): a for a in (self.images, self.models, self.results)}.values():
            archive.close()


def open_archives(named: str | Path | None, settings: Settings, *, create: bool = False) -> Archives:
    """The archives of all roles; one that a command names stands for all of them. Raises as `open_archive` does."""
    opened: dict[ArchiveSettings, Archive] = {}
    found: dict[str, Archive] = {}
    for role in Role:
        described = archive_settings(named, settings, role)
        if described not in opened:
            opened[described] = open_archive(named, settings, role=role, create=create)
        found[role.value] = opened[described]
    return Archives(**found, forms=forms_for(archive_settings(named, settings, Role.RESULTS)))


def open_loose_files(folder: Path) -> Archive:
    """A folder of DICOM files, read where it lies."""
    from residency.archives.loose import LooseFiles

    return LooseFiles(folder)


def open_engine(settings: Settings) -> Engine:
    """The inference engine of this machine."""
    from residency.engines.openvino import OpenVino

    return OpenVino(threads=settings.threads)


def open_site(settings: Settings) -> Site:
    """What this site has decided."""
    return Site(settings.home)


def label_rules(site: Site) -> RuleSet:
    """The site's own rules, then those that ship, with the approvals that people gave. Raises ConfigError."""
    own = site.home / RULES_FILE
    try:
        rules = parse_rules(own.read_text(encoding="utf-8"), str(own)) if own.exists() else ()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the label rules {own} cannot be read: {error}") from None
    known = {rule.id for rule in rules}
    rules += tuple(rule for rule in shipped_rules() if rule.id not in known)
    approvals = {rule.digest: site.rules_approval(rule.digest) for rule in rules}
    return RuleSet(rules, {digest: found.evidence.get("by", "?") for digest, found in approvals.items() if found})


def models_of(archive: Archive, site: Site, engine: Engine, settings: Settings, *, index: ModelIndex | None) -> Library:
    """The models of an archive with their standing at this site; withdrawals seen there are remembered.

    index  answers for manifests that were read before; None: every one is read from the archive
    """
    library = find_models(
        archive,
        site.trust(),
        now=dt.datetime.now(dt.UTC),
        index=index,
        statements=site.statements(),
        runs_on=runs_on(engine.build, settings.precision),
    )
    site.remember(library.statements)
    return library


def open_house(
    settings: Settings,
    *,
    images: Archive,
    models: Archive,
    results: Archive | None = None,
    forms: ResultForms | None = None,
) -> House:
    """Everything that the walk is handed. Results go to `results`, without one to where the models live.

    forms  which objects a result becomes; without, only what every archive takes
    """
    site, engine = open_site(settings), open_engine(settings)
    library = models_of(models, site, engine, settings, index=site.index)
    known = library.by_digest
    return House(
        images=images,
        results=models if results is None else results,
        models=known,
        candidates=CandidateTable.of(Candidate(m.card, m.standing) for m in known.values() if m.card is not None),
        rules=label_rules(site),
        engine=engine,
        precision=settings.precision,
        package=_packages(models, site, engine, settings),
        forms=forms or ResultForms(),
    )


def _packages(archive: Archive, site: Site, engine: Engine, settings: Settings) -> Callable[[KnownModel], ModelPackage]:
    replayed: dict[str, AdmissionError | None] = {}

    def package(model: KnownModel) -> ModelPackage:
        """Fetched and verified; admitted on this machine, by replay where no admission of it is on record."""
        fetched = fetch(archive, model, site.trust(), cache=site.packages)
        if not model.standing.admitted and model.digest not in replayed:
            try:
                admit_here(fetched, site, engine, settings)
                replayed[model.digest] = None
            except AdmissionError as error:
                replayed[model.digest] = error
        failure = replayed.get(model.digest)
        if failure is not None:
            raise failure
        return fetched

    return package


def admit_here(package: ModelPackage, site: Site, engine: Engine, settings: Settings) -> Admission:
    """Replay the golden case and record at the site how it came out. Raises AdmissionError after recording a failure.

    A failure is remembered for this engine, precision and CPU, so that the model is not tried again at every run.
    """
    now = dt.datetime.now(dt.UTC)
    try:
        passed = admit(package, engine, settings.precision, replay=replay)
    except AdmissionError as error:
        site.refuse(package.digest, runs_on(engine.build, settings.precision), str(error), now)
        raise
    site.admit(passed, now)
    return passed
