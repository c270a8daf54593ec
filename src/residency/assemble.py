"""Settings -> archives, engine, site, house: the only place that chooses adapters."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from residency.archive import Archive
from residency.engine import Engine
from residency.errors import ConfigError, UsageError
from residency.models import KnownModel, Library, ModelIndex, fetch, find_models
from residency.models.admit import admit, runs_on
from residency.package import ModelPackage
from residency.pipeline import House, replay
from residency.selection import Candidate, CandidateTable, RuleSet, parse_rules, shipped_rules
from residency.settings import Settings
from residency.site import Site

RULES_FILE = "label_rules.toml"
"""The site's own label rules, below its home; they come before those that ship."""


def open_archive(url: str | Path | None, settings: Settings, *, create: bool = True) -> Archive:
    """The archive at a path or URL; without one, the archive of the settings.

    Raises UsageError where none is named, where the kind of URL is not known, where the path is a file, or where
    `create` is False and no archive is there.
    """
    named = str(url) if url is not None else settings.archive
    if not named:
        raise UsageError("no archive is named: give --archive PATH, or set 'archive' in the settings")
    parts = urlsplit(named)
    if "://" in named and parts.scheme != "file":
        raise UsageError(
            f"{parts.scheme}:// archives are not known to this version, whose archive is a folder: give its path"
        )
    path = Path(unquote(parts.path) if parts.scheme == "file" else named).expanduser()
    if path.is_file():
        raise UsageError(f"{path} is a file; an archive is a folder")
    if not create and not (path / "residency-archive").exists():
        if path.is_dir() and any(path.iterdir()):
            raise UsageError(f"{path} is no archive of Residency but holds other files: name another folder")
        raise UsageError(f"{path} is no archive; 'residency archive import FILES --archive {path}' makes one")
    from residency.archives.folder import FolderArchive

    return FolderArchive(path)


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


def open_house(settings: Settings, *, images: Archive, models: Archive) -> House:
    """Everything that the walk is handed. Models live, and results go, in `models`; images are read from `images`."""
    site, engine = open_site(settings), open_engine(settings)
    library = models_of(models, site, engine, settings, index=site.index)
    known = library.by_digest
    return House(
        images=images,
        results=models,
        models=known,
        candidates=CandidateTable.of(Candidate(m.card, m.standing) for m in known.values() if m.card is not None),
        rules=label_rules(site),
        engine=engine,
        precision=settings.precision,
        package=_packages(models, site, engine, settings),
    )


def _packages(archive: Archive, site: Site, engine: Engine, settings: Settings) -> Callable[[KnownModel], ModelPackage]:
    def package(model: KnownModel) -> ModelPackage:
        """Fetched and verified; admitted on this machine, by replay where no admission of it is on record."""
        fetched = fetch(archive, model, site.trust(), cache=site.packages)
        if not model.standing.admitted:
            site.admit(admit(fetched, engine, settings.precision, replay=replay), dt.datetime.now(dt.UTC))
        return fetched

    return package
