"""Everything Residency raises on purpose, as a tree.

A message says what was found, what was expected (both with units), where (UID, file, key) and what to do; it holds no
patient data. The class says whose turn it is; the faces turn an error into one line and an exit status.
"""

from __future__ import annotations


class ResidencyError(Exception):
    """Something foreseen went wrong. `exit_status` is what the command line ends with."""

    exit_status = 1


class UsageError(ResidencyError):
    """What the user asked for cannot be done as asked: an argument, a path, a name."""

    exit_status = 2


class ConfigError(UsageError):
    """A settings, recipe, rule or training file holds something unknown or impossible, or names what is not there."""


class DependencyError(UsageError):
    """An optional package is not installed; the message names the extra that brings it."""


class InputError(ResidencyError):
    """The images cannot be read exactly. The turn of whoever sent them; the message names the instance."""

    exit_status = 10


class GeometryError(InputError):
    """Positions, orientations or spacings do not form one regular grid."""


class PixelError(InputError):
    """Pixel data are missing, short, damaged or of a kind that is not read."""


class CropError(InputError):
    """A model needs a crop round a structure, and the model before it found none in the images that could be given."""


class SelectionError(ResidencyError):
    """Rules or cards contradict themselves. The turn of whoever keeps the site's rules."""

    exit_status = 11


class CodeError(SelectionError):
    """A coded concept is unknown or malformed."""


class ModelError(ResidencyError):
    """A model object cannot be used. The turn of its publisher or of the site's approver."""

    exit_status = 12


class CardError(ModelError):
    """The model card breaks its schema; the message names the field and suggests the nearest known one."""


class PackageError(ModelError):
    """A package folder or payload is malformed."""


class ManifestError(ModelError):
    """The manifest is not canonical, of an unknown format, or not what its identity says."""


class MisplacedError(ManifestError):
    """The object is sound, but does not lie under the UIDs that its digest demands: moved, replayed or doubled."""


class StrippedError(ManifestError):
    """A model's instance came back without its private block: stripped or anonymised in transit. Publish it again."""


class RevokedError(ModelError):
    """The version was revoked or suspended by someone this site trusts to do so."""


class SignatureError(ModelError):
    """The signature does not fit the stored characters."""


class UnsignedError(SignatureError):
    """The manifest carries no signature at all."""


class UntrustedKeyError(SignatureError):
    """The signature is made with a key that this site does not trust for this role."""


class IncompleteError(ModelError):
    """Parts that the manifest lists are missing."""


class DigestError(ModelError):
    """Bytes differ from their digest; the message names the part."""


class GraphError(ModelError):
    """The network's graph fails the checks made before an engine sees it."""


class AdmissionError(ModelError):
    """The golden case, replayed on this machine, does not give the expected result."""


class ArchiveError(ResidencyError):
    """The archive refused, lost or changed something. `retry` says whether asking again can help."""

    exit_status = 13

    def __init__(self, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.retry = retry


class ConflictError(ArchiveError):
    """The archive already holds other content under this SOP Instance UID."""


class UnreachableError(ArchiveError):
    """The archive cannot be reached, closed the connection, or did not answer in time."""


class CredentialsError(ArchiveError):
    """The archive does not let us in: user, token, certificate or AE title."""


class RejectedError(ArchiveError):
    """The archive refuses this kind of object or this request, and says so."""


class AnswerError(ArchiveError):
    """The archive's answer is not what its protocol allows: malformed, cut short, or not what was asked for."""


class LostError(ArchiveError):
    """The archive reported success, but does not give the instance back."""


class AlteredError(ArchiveError):
    """The archive gives back something else than was stored; the message names what changed."""


class UnconfirmedError(ArchiveError):
    """The answer to a request was lost: whether the instance is stored is not known. Sending it again is safe."""


class EngineError(ResidencyError):
    """The inference engine failed or cannot run this network. The turn of whoever runs the machine."""

    exit_status = 14


class TrainingError(ResidencyError):
    """The cases of a training, or its run, cannot be used as they are; the message says which case or run."""

    exit_status = 15


class ConversionError(TrainingError):
    """A 2D network cannot be carried into 3D. The message names each layer at fault, the reason and what to do.

    `places` holds the paths of these layers within the network, "" for the network itself.
    """

    def __init__(self, message: str, *, places: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.places = places
