"""TLS as the settings of an archive name it, for every protocol: whom we trust, and as whom we show ourselves."""

from __future__ import annotations

import ssl

from residency.errors import ConfigError
from residency.settings import ArchiveSettings


def towards(settings: ArchiveSettings) -> ssl.SSLContext:
    """Our side towards the archive. Its certificate is checked, always: against `ca_file`, else the system's own.

    Raises ConfigError where a file of the settings cannot be used.
    """
    return _context(settings, ssl.Purpose.SERVER_AUTH)


def listening(settings: ArchiveSettings) -> ssl.SSLContext:
    """Our side where the archive connects to us: our certificate is shown, its own demanded. Raises ConfigError."""
    if settings.client_certificate is None:
        raise ConfigError("C-MOVE over TLS needs client_certificate and client_key: we are the server of what is sent")
    context = _context(settings, ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _context(settings: ArchiveSettings, purpose: ssl.Purpose) -> ssl.SSLContext:
    file, what = settings.ca_file, "ca_file"
    try:
        context = ssl.create_default_context(purpose, cafile=str(file.expanduser()) if file else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        file, what = settings.client_certificate, "client_certificate"
        if file is not None and settings.client_key is not None:
            # A key behind a passphrase would make OpenSSL ask on the terminal; an empty one makes it fail instead.
            context.load_cert_chain(str(file.expanduser()), str(settings.client_key.expanduser()), password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"{what} of the archive, {file}, cannot be used: {reason or 'no PEM file'}") from None
    return context
