"""Weights from a file that the user gives, into a net of the same names: torchvision's, or anybody's.

Nothing is ever downloaded. A file is hostile until it is read: safetensors (which hold numbers and names alone), or a
file of `torch.save` through torch's own restricted reader, which runs no code, and only where it names what a state
dict names. Nothing in the net is changed before everything fits.
"""

from __future__ import annotations

import pickletools
import re
import warnings
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, get_args

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from residency.errors import TrainingError
from residency.nets.acs import first_layer
from residency.nets.net import name_of

LARGEST_FILE = 2 * 1024**3
"""Bytes of the largest file that is read. The largest of torchvision's classifiers, VGG-19, takes 0.6 GB."""

MOST_CHANNELS = 64
"""Input channels that weights may have been made for, where the net has others."""

FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
"""Formats that are converted into each other."""

SHOWN = 3
"""How many names of each kind an error names."""

OLD_PICKLES = 5
"""A file of before torch 1.6 begins with so many pickles: two numbers, the machine, the tensors, their places."""

_NAMING = {"GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"}
"""Operations of a pickle that name a function or class of Python's."""

OF_A_STATE_DICT = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch \w+Storage"
)
"""What a state dict names."""

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Under what trainings keep the state dict in a checkpoint, beside an optimiser's and figures."""

_COUNTER = "num_batches_tracked"
"""Files of before torch 0.4.1 lack these counters. They say nothing about the answer, so they may be missing."""


Head = Literal["strict", "fresh"]
Into = Literal["net", "encoder"]


@dataclass(frozen=True)
class Loaded:
    """What a net took from a file.

    tensors  how many
    notes    what was not taken as it stands in the file, one sentence each
    """

    tensors: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join([f"{self.tensors} tensors loaded.", *self.notes])


def load_weights(net: nn.Module, file: Path | str, *, head: Head = "strict", into: Into = "net") -> Loaded:
    """Put the file's weights into the net, strictly: each name and shape must be the net's.

    file  safetensors, or `torch.save` of a state dict, or of a checkpoint that holds one as "state_dict",
          "model_state_dict" or "model"
    head  "strict": what gives the scores too; "fresh": it keeps its own values, for other classes than those of the
          file. For nets of the registry, and others that name it: `head` of a classifier, `last_layers` of any `Net`
    into  "encoder": into `net.encoder` alone, the file being that of a classifier (of the encoder's kind)

    Three things are adapted, and said in the answer: a first layer made for another number of channels (to 1: the sum
    of its kernels over the channels, which answers a grey image as the file's net answers it repeated in every channel;
    to n from m: channels in turn, times m / n); names of an older form that the net knows; other floating-point
    formats. A net without its head (`without_head`) does not take what only the head needs. The first layer is that
    which the net names (`first_layer`), as those of the registry do; of another net it must fit as it stands.

    Raises TrainingError, in one line that names the first differences, for a file that cannot be read or does not fit,
    and for options that are none or that this net does not know; the net is then as it was.
    """
    if not isinstance(file, str | Path):
        raise TrainingError(
            f"weights come from a file, got {type(file).__name__}: a state dict in memory goes in by "
            "net.load_state_dict(state)"
        )
    file = Path(file)
    _must_be("head", head, get_args(Head))
    _must_be("into", into, get_args(Into))
    if into == "encoder":
        encoder = getattr(net, "encoder", None)
        if not isinstance(encoder, nn.Module):
            raise TrainingError(f"{name_of(net)} has no encoder of its own: load with into='net'")
        net = encoder
    own = net.state_dict()
    _must_name_layers(net, own, "first_layer", (_first_layer(net),) if _first_layer(net) else ())
    notes: list[str] = []
    found = _renamed(net, _read(file, notes), file, notes)
    found, needless = _split(found, getattr(net, "left_out", ()))
    if needless:
        notes.append(f"Not taken, since this net has no head: {_shown(needless)}.")
    kept_fresh: Collection[str] = ()
    if head == "fresh":
        places = _heads(net)
        if not places:
            end = _place(list(own)[-1]) if own else ""
            raise TrainingError(
                f"{name_of(net)} does not say which of its layers give the scores, so that none can begin anew"
                + (f": name them, as net.last_layers = ({_shown([end])},)" if end else "")
            )
        _must_name_layers(net, own, "last_layers", places)
        found, _ = _split(found, places)
        _, kept_fresh = _split(own, places)
        begun = [place for place in places if any(key.startswith(f"{place}.") for key in kept_fresh)]
        if begun:
            notes.append(f"The {_what(net)} {' and '.join(map(repr, begun))} begins anew.")
    given = {key: value.dtype for key, value in found.items()}
    found = _with_channels_of(net, own, found, notes)
    wanted = {key: value for key, value in own.items() if key not in kept_fresh}
    found = must_fit(net, wanted, found, file)
    formats = sorted({_named(given[key]) for key, value in found.items() if given[key] != value.dtype})
    if formats:
        notes.append(f"Converted from {', '.join(formats)}.")
    net.load_state_dict({**own, **found}, strict=True)
    return Loaded(len(found), tuple(notes))


def _must_be(option: str, value: object, known: Collection[str]) -> None:
    if value not in known:
        raise TrainingError(f"{option} is {' or '.join(map(repr, known))}, got {str(value)[:40]!r}")


def _must_name_layers(net: nn.Module, own: Mapping[str, Tensor], attribute: str, places: Collection[str]) -> None:
    """Raises TrainingError for a misspelt place: what it means would be taken as any other layer."""
    layers, absent = dict(net.named_modules()), getattr(net, "left_out", ())
    for place in places:
        empty = isinstance(layers.get(place), nn.ModuleList) and not len(layers[place])  # scores that are switched off
        if not (empty or any(f"{place}.".startswith(f"{one}.") for one in absent) or _split(own, [place])[1]):
            named = "head" if attribute == "last_layers" and isinstance(getattr(net, "head", None), str) else attribute
            raise TrainingError(
                f"net.{named} names {_shown([place])}, where {name_of(net)} has no weights: "
                f"its layers are named as {_shown(list(dict.fromkeys(map(_place, own))))}"
            )


def _first_layer(net: nn.Module) -> str:
    """The name of the layer that takes the image, empty where the net does not say it."""
    named = getattr(net, "first_layer", "")  # of somebody's own net it may be the layer itself
    return named if isinstance(named, str) else ""


def _heads(net: nn.Module) -> tuple[str, ...]:
    """Where the layers lie whose sizes depend on the number of classes."""
    head = getattr(net, "head", None)  # of a net that segments it may be the layer itself
    last = head if isinstance(head, str) else getattr(net, "last_layers", ())
    return (last,) if isinstance(last, str) else () if isinstance(last, nn.Module) else tuple(last)


def _what(net: nn.Module) -> str:
    return "classifier" if isinstance(getattr(net, "head", None), str) else "last layer"


def _read(file: Path, notes: list[str]) -> dict[str, Tensor]:
    """The tensors of a file by name; nothing about them is checked but that they are plain tensors."""
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            start = opened.read(16)
    except OSError as error:
        raise TrainingError(f"weights {file} cannot be read: {error.strerror or error}") from None
    if size > LARGEST_FILE:
        raise TrainingError(f"weights {file} have {size} bytes, more than the {LARGEST_FILE} that are read")
    try:
        held = load_file(file, device="cpu") if _is_safetensors(start, size) else read_torch(file, start, size)
    except TrainingError:
        raise
    except Exception as error:  # whatever a reader says to damaged bytes
        said = (str(error).splitlines() or [""])[0][:200]
        raise TrainingError(f"weights {file} are damaged or hold more than tensors: {said}") from None
    if not isinstance(held, Mapping) or not held:
        raise TrainingError(f"weights {file} hold no tensors by name: save the state dict of a net alone")
    wrappers = [name for name in WRAPPERS if isinstance(held.get(name), Mapping) and held[name]]
    if len(wrappers) == 1:
        notes.append(f"Taken from {wrappers[0]!r} of the file.")
        held = held[wrappers[0]]
    for key, value in held.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            odd = _shown([str(key)])
            raise TrainingError(f"weights {file} hold {odd}, no tensor: save the state dict of a net alone")
    return {key: value.detach() for key, value in held.items()}


def _is_safetensors(start: bytes, size: int) -> bool:
    """Eight bytes that give the length of a header, then the header, JSON."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8


def read_torch(file: Path, start: bytes, size: int, names: re.Pattern[str] = OF_A_STATE_DICT) -> object:
    """What a file of torch.save holds, by torch's restricted reader; `names` is all that its pickles may name.

    start, size  the file's first 16 bytes, and how many it has

    Raises TrainingError for what it may not name, and whatever torch says to damaged bytes.
    """
    if start[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
            doubled = len({entry.filename.lower() for entry in entries}) < len(entries)
            if packed or doubled or sum(entry.file_size for entry in entries) > size:
                raise TrainingError(f"weights {file} are packed in a way that torch never writes: refused")
            for entry in entries:
                if entry.filename.endswith(".pkl"):
                    with archive.open(entry) as pickled:
                        _must_name_alone(names, pickled, file)
    elif start[:1] == b"\x80":  # how a pickle begins, the form of before torch 1.6
        with file.open("rb") as opened:
            for _ in range(OLD_PICKLES):
                _must_name_alone(names, opened, file)
    else:
        raise TrainingError(f"weights {file} are neither safetensors nor a file of torch.save")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of its old form is not news to the user
        with file.open("rb") as opened:  # by its name torch would judge what it holds
            return torch.load(opened, map_location="cpu", weights_only=True)


def _must_name_alone(names: re.Pattern[str], pickled: IO[bytes], file: Path) -> None:
    """Read a pickle without carrying it out. torch's reader knows names that make memory of a number, bytearray one."""
    for operation, argument, _ in pickletools.genops(pickled):
        named = operation.name in _NAMING
        if named and not (operation.name == "GLOBAL" and names.fullmatch(str(argument))):
            odd = _shown([str(argument or operation.name)])
            raise TrainingError(f"weights {file} hold more than tensors: {odd}; save the state dict of a net alone")


def _renamed(net: nn.Module, found: dict[str, Tensor], file: Path, notes: list[str]) -> dict[str, Tensor]:
    pattern, replacement = getattr(net, "old_names", ("(?!)", ""))
    renamed = {re.sub(pattern, replacement, key): value for key, value in found.items()}
    if len(renamed) < len(found):
        raise TrainingError(f"weights {file} hold a tensor under its old and its new name")
    changed = len(found.keys() - renamed.keys())
    if changed:
        notes.append(f"{changed} tensors had names of an older form.")
    return renamed


def _split(state: Mapping[str, Tensor], places: Collection[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What does not lie under these places, and what does."""
    under = {key: value for key, value in state.items() if any(key.startswith(f"{place}.") for place in places)}
    return {key: value for key, value in state.items() if key not in under}, under


def _with_channels_of(
    net: nn.Module, own: Mapping[str, Tensor], found: dict[str, Tensor], notes: list[str]
) -> dict[str, Tensor]:
    key = f"{_first_layer(net)}.weight"
    if key not in own or key not in found:
        return found
    wanted, given = own[key], found[key]
    alike = given.ndim == wanted.ndim and given.shape[:1] == wanted.shape[:1] and given.shape[2:] == wanted.shape[2:]
    if not alike or given.dtype not in FLOATS or given.shape[1] == wanted.shape[1]:
        return found
    channels, made_for = wanted.shape[1], given.shape[1]
    if not 0 < made_for <= MOST_CHANNELS:
        return found
    how = "their sum" if channels == 1 else f"in turn, times {made_for}/{channels}"
    notes.append(f"First layer made for {made_for} channels, adapted to {channels}: {how}.")
    if wanted.dtype in FLOATS:
        given = given.to(wanted.dtype)  # a sum in half precision may go beyond what that holds
    return {**found, key: first_layer(given, channels)}


def must_fit(
    net: nn.Module, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], file: Path
) -> dict[str, Tensor]:
    """What was found, in the formats of the net.

    Raises TrainingError, naming the first differences, where names, shapes or types are not those wanted, and for
    values that are not finite in the net's format.
    """
    missing = [key for key in wanted if key not in found and not key.endswith(_COUNTER)]
    unexpected = [key for key in found if key not in wanted]
    other = [key for key in found if key in wanted and not _alike(found[key], wanted[key])]
    faults = []
    if missing:
        faults.append(f"{len(missing)} missing ({_shown(missing)})")
    if unexpected:
        faults.append(f"{len(unexpected)} unexpected ({_shown(unexpected)})")
    if other:
        shapes = "; ".join(f"{key}: {_kind(found[key])}, in the net {_kind(wanted[key])}" for key in other[:SHOWN])
        faults.append(f"{len(other)} of another shape or type ({shapes}{'; ...' if len(other) > SHOWN else ''})")
    if faults:
        hint = _hint(net, wanted, found, missing, unexpected, other)
        raise TrainingError(f"weights {file} do not fit {name_of(net)}: {', '.join(faults)}{hint}")
    # Only now, since a few bytes of a file may say a shape that no memory holds.
    fits = {key: value.to(wanted[key].dtype) for key, value in found.items()}
    broken = [key for key, value in fits.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise TrainingError(f"weights {file} hold values that are, in the net's format, not finite: {_shown(broken)}")
    return fits


def _hint(
    net: nn.Module,
    wanted: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    missing: list[str],
    unexpected: list[str],
    other: list[str],
) -> str:
    places = tuple(f"{place}." for place in _heads(net))
    if places and all(key.startswith(places) for key in [*missing, *unexpected, *other]):
        return f"; only the {_what(net)} differs: head='fresh' loads the rest"
    if _is_of_encoder(net, found):
        return (
            "; these are weights of a classifier like its encoder: load_weights(..., into='encoder') loads them there"
        )
    first = {key.partition(".")[0] for key in found}
    if len(first) == 1 and all(key.partition(".")[2] in wanted for key in found):
        return f"; every name begins with {_shown(first)[:-1]}.', which is to be taken away"
    if missing and unexpected and not wanted.keys() & found.keys():
        return "; these look like weights of another architecture"
    return "" if missing or unexpected else _hint_on_shapes(net, wanted, found, other)


def _hint_on_shapes(net: nn.Module, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], other: list[str]) -> str:
    """Where all names fit: weights of a 2D net, or a net that does not say which layers may have other sizes."""
    if all((found[key].ndim, wanted[key].ndim) == (4, 5) for key in other):
        return (
            "; these are weights of a 2D net: where this one came from it by `convert`, load them before that, or by "
            "`load` of what `convert` gave, which inflates them; a net built in 3D takes those of 3D nets alone"
        )
    kernels, end = [key for key in wanted if wanted[key].ndim > 3], _place(list(wanted)[-1])
    first = [key for key in other if key in kernels[:1] and _differs_along(1, found[key], wanted[key])]
    last = [key for key in other if _place(key) == end and _differs_along(0, found[key], wanted[key])]
    if set(other) - {*first, *last}:  # other widths within
        return ""
    told = []
    if first and _place(first[0]) and not _first_layer(net):
        told.append(f"net.first_layer = {_shown([_place(first[0])])} lets it be adapted to other channels")
    if last and end and not _heads(net):
        told.append(f"net.last_layers = ({_shown([_place(last[0])])},) and head='fresh' let it begin anew")
    return "".join(f"; {each}" for each in told)


def _differs_along(axis: int, given: Tensor, wanted: Tensor) -> bool:
    sides, own = list(given.shape), list(wanted.shape)
    return (
        len(sides) == len(own) > axis
        and sides[axis] != own[axis]
        and (sides[:axis] + sides[axis + 1 :] == own[:axis] + own[axis + 1 :])
    )


def _place(key: str) -> str:
    """Of the layer that holds this tensor."""
    return key.rpartition(".")[0]


def _is_of_encoder(net: nn.Module, found: Mapping[str, Tensor]) -> bool:
    """Whether the file holds all names of the net's encoder, as those of a classifier: without "encoder." before."""
    encoder = getattr(net, "encoder", None)
    if not isinstance(encoder, nn.Module):
        return False
    named = [key for key in encoder.state_dict() if not key.endswith(_COUNTER)]
    return bool(named) and all(key in found for key in named)


def _alike(given: Tensor, wanted: Tensor) -> bool:
    return given.shape == wanted.shape and (given.dtype == wanted.dtype or {given.dtype, wanted.dtype} <= FLOATS)


def _kind(value: Tensor) -> str:
    sides = " x ".join(map(str, value.shape)) or "one value"
    return sides if value.dtype == torch.float32 else f"{sides} {_named(value.dtype)}"


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _shown(names: Collection[str]) -> str:
    """The first names, each short, on one line whatever is in them."""
    few = [repr(one if len(one) <= 80 else f"{one[:77]}...") for one in list(names)[:SHOWN]]
    return ", ".join(few) + (", ..." if len(names) > SHOWN else "")
