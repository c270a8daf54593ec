"""The DICOM conformance statement, docs/conformance.md: a text, and tables from the code that works by them.

`tools/make_reference.py` writes it beside the other generated pages. What is created is found out by writing one of
each for a phantom and sorting its attributes by the standard's modules, as highdicom carries them.
"""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import pydicom
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.uid import UID

from residency import __version__

_TEXT = Path(__file__).with_name("conformance.md")
_TOO_NEW = {"1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage"}
"""What pydicom's dictionary does not name yet."""
_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"


def page() -> str:
    """The whole statement as Markdown."""
    from residency.archives.dicomweb.query import PAGE
    from residency.archives.dimse.association import IMPLICIT
    from residency.archives.dimse.retrieve import SYNTAXES
    from residency.archives.dimse.send import NATIVE
    from residency.archives.part10 import LARGEST_INSTANCE

    written = [(what, pydicom.dcmread(io.BytesIO(data))) for what, data in _examples()]
    return _TEXT.read_text(encoding="utf-8").format(
        version=__version__,
        services=_services(),
        association=_association(),
        native=" and ".join(_name(uid) for uid in NATIVE[:2]),
        implicit=_name(IMPLICIT),
        received=_table(("transfer syntax", "UID"), _named(SYNTAXES)),
        keys=_keys(),
        page=PAGE,
        largest=LARGEST_INSTANCE // 2**20,
        kinds=_kinds(),
        syntaxes=_syntaxes(),
        created=_created(written),
        modules="\n\n".join(_modules(what, dataset) for what, dataset in written),
    )


def _table(headings: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [list(headings), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    written = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([written[0], "|" + "---|" * len(lines[0]), *written[1:]])


def _name(uid: str) -> str:
    return _TOO_NEW.get(uid, UID(uid).name)


def _named(uids: Iterable[str]) -> list[tuple[str, str]]:
    ordered = sorted(uids, key=lambda uid: [int(part) for part in uid.split(".")])
    return [(_name(uid), f"`{uid}`") for uid in ordered]


def _services() -> str:
    from residency.archives.dimse.query import FIND
    from residency.archives.dimse.retrieve import GET

    rows = [
        ("Verification", "`1.2.840.10008.1.1`", "SCU", "trying whether an archive answers"),
        (_name(FIND), f"`{FIND}`", "SCU", "every look-up"),
        (_name(GET), f"`{GET}`", "SCU", "retrieval, unless the next is set"),
        (_name(_MOVE), f"`{_MOVE}`", "SCU", 'retrieval where the archive\'s `retrieve` is "move"'),
        ("Storage", "those of what is stored", "SCU", "results, models, imports"),
        ("Storage", "those that were asked for", "SCP", "sub-operations of C-GET and C-MOVE only"),
    ]
    return _table(("service", "SOP class", "role", "used for"), rows)


def _association() -> str:
    from residency.archives.dimse.association import APPLICATION_CONTEXT, MOST_CONTEXTS
    from residency.archives.dimse.wire import LARGEST_PDU
    from residency.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
    from residency.settings import ArchiveSettings

    fields = ArchiveSettings.model_fields
    rows = [
        ("application context", f"`{APPLICATION_CONTEXT}`"),
        ("largest PDU that is received", f"{LARGEST_PDU} bytes; a larger one is refused before it is read"),
        ("associations at a time", f"{fields['associations'].default} (setting `associations`)"),
        ("presentation contexts of one association", f"at most {MOST_CONTEXTS}"),
        ("asynchronous operations", "not negotiated"),
        ("SCP/SCU role selection", "proposed for the storage classes of a C-GET"),
        ("our AE title", f"`{fields['ae_title'].default}` (setting `ae_title`)"),
        ("time-out", f"{fields['timeout_s'].default:g} s without an answer (setting `timeout_s`)"),
        ("implementation class UID", f"`{IMPLEMENTATION_CLASS_UID}`"),
        ("implementation version name", f"`{IMPLEMENTATION_VERSION_NAME}`"),
    ]
    return _table(("what", "value"), rows)


def _keys() -> str:
    from residency.archives.dimse.identifiers import KEYS, TAGS

    rows = [(level.value, ", ".join(f"`{keyword_for_tag(TAGS[key])}`" for key in keys)) for level, keys in KEYS.items()]
    return _table(("level", "keys"), rows)


def _kinds() -> str:
    from residency.dicom.kinds import MULTI_FRAME_CLASSES, PROJECTION_CLASSES, SECONDARY_CAPTURE, STACKED_CLASSES

    groups = (
        (STACKED_CLASSES, "slices of a volume"),
        (MULTI_FRAME_CLASSES, "frames of a volume"),
        (PROJECTION_CLASSES, "a radiograph"),
        ([SECONDARY_CAPTURE], "a slice where it has a place in the patient, else a radiograph"),
    )
    return _table(("SOP class", "UID", "read as"), [(*row, role) for uids, role in groups for row in _named(uids)])


def _syntaxes() -> str:
    from residency.dicom.codecs import CODECS
    from residency.dicom.pixels import NATIVE

    return _table(("transfer syntax", "UID"), _named({*NATIVE, *CODECS}))


def _examples() -> Iterator[tuple[str, bytes]]:
    """A result of each form, and what people say of the first."""
    from residency.dicom.assessment import Opinion, Verdict, assessment
    from residency.dicom.document import ObjectReference
    from residency.dicom.key_objects import Rejection, rejection_note
    from residency.doctor import example_results

    results = [(what, made.data) for what, made in example_results()]
    yield from results
    first, moment = results[0][1], dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    ds = pydicom.dcmread(io.BytesIO(first), stop_before_pixels=True)
    rejected = ObjectReference(str(ds.SeriesInstanceUID), str(ds.SOPClassUID), str(ds.SOPInstanceUID))
    yield "Assessment", assessment(first, Opinion(Verdict.ACCEPTED, "fits", moment, by="Example^A")).data
    yield "Rejection note", rejection_note(first, [rejected], Rejection(text="recalled"), moment).data


def _created(written: Iterable[tuple[str, Dataset]]) -> str:
    rows = [
        (what, _name(str(ds.SOPClassUID)), f"`{ds.SOPClassUID}`", _name(str(ds.file_meta.TransferSyntaxUID)))
        for what, ds in written
    ]
    return _table(("object", "SOP class", "UID", "transfer syntax"), rows)


def _modules(what: str, written: Dataset) -> str:
    """Keywords by module, each under the first module of its IOD that has it; what no module has comes last."""
    from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map

    iod = get_sop_class_iod_map().get(str(written.SOPClassUID), "segmentation")
    attributes = get_module_attribute_map()
    left = {element.keyword or "(private block)": None for element in written}
    rows = []
    for module in get_iod_module_map()[iod]:
        own = [a["keyword"] for a in attributes.get(module["key"], ()) if not a["path"] and a["keyword"] in left]
        for keyword in own:
            left.pop(keyword, None)
        if own:
            rows.append((module["key"].replace("-", " "), ", ".join(f"`{k}`" for k in dict.fromkeys(own))))
    if left:
        rows.append(("(in no module)", ", ".join(f"`{keyword}`" for keyword in sorted(left))))
    return f"### {what}\n\n" + _table(("module", "attributes"), rows)
