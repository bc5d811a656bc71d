"""Ways to a Bastide: the UNIX socket on the same machine, or TLS to another one.

A transport opens connected sockets; `http.py` and `websocket.py` speak over them. Over the UNIX socket the daemon knows
the caller by its user id (`SO_PEERCRED`), over TLS an API token says who calls.
"""

import contextlib
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from bastide.base.errors import AuthenticationFailed, InvalidParameter
from bastide.client.errors import Unreachable

CONNECT_DEADLINE = 10.0  # seconds


class Transport(Protocol):
    """Opens connections to one Bastide."""

    @property
    def host(self) -> str:
        """The value of the Host header."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What every request carries: the authorization."""

    def connect(self) -> socket.socket:
        """A connected socket. Raises Unreachable, saying where nothing answers."""


class UnixTransport:
    """The socket of the daemon on this machine."""

    host = "localhost"
    headers: Mapping[str, str] = {}

    def __init__(self, path: Path) -> None:
        self.path = path

    def connect(self) -> socket.socket:
        """A connected socket; Unreachable when no daemon listens or this user may not talk to it."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(CONNECT_DEADLINE)
        try:
            sock.connect(str(self.path))
        except PermissionError:
            sock.close()
            raise Unreachable(f"{self.path} is for root: use sudo, or BASTIDE_API and BASTIDE_TOKEN") from None
        except OSError as error:
            sock.close()
            raise Unreachable(f"no daemon answers at {self.path}: {error.strerror or error}") from None
        sock.settimeout(None)
        return sock


class TlsTransport:
    """HTTPS to any Bastide, by an API token.

    `url` is `https://host[:port]`, 8006 being the default port. The certificate is checked against the system's
    authorities, or against `ca_file`, or it must have the SHA-256 `fingerprint` (hex, colons allowed) that
    `bastide up` prints: a fresh host signs its own certificate.
    """

    def __init__(self, url: str, token: str, *, ca_file: str | None = None, fingerprint: str | None = None) -> None:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        if parts.scheme != "https" or not parts.hostname:
            raise InvalidParameter({"BASTIDE_API": f"'{url[:200]}' is not an address such as https://host:8006"})
        self.address = (parts.hostname, parts.port or 8006)
        self.host = f"{parts.netloc.rpartition('@')[2]}" if parts.port else f"{parts.hostname}:8006"
        self.headers: Mapping[str, str] = {"Authorization": f"PVEAPIToken={token}"}
        self.ca_file = ca_file
        self.fingerprint = fingerprint.replace(":", "").lower() if fingerprint else None

    def connect(self) -> socket.socket:
        """A connected socket after the TLS handshake; AuthenticationFailed when the certificate is not the expected."""
        import ssl  # noqa: PLC0415 - 10 ms that local commands do not pay

        context = ssl.create_default_context(cafile=self.ca_file)
        if self.fingerprint:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        try:
            sock = socket.create_connection(self.address, CONNECT_DEADLINE)
        except OSError as error:
            raise Unreachable(f"no daemon answers at https://{self.host}: {error.strerror or error}") from None
        try:
            tls = context.wrap_socket(sock, server_hostname=self.address[0])
        except ssl.SSLCertVerificationError as error:
            sock.close()
            raise AuthenticationFailed(
                f"the certificate of https://{self.host} is not trusted ({error.verify_message}): "
                "set BASTIDE_FINGERPRINT to the one that `bastide up` printed there"
            ) from None
        except OSError as error:
            sock.close()
            raise Unreachable(f"https://{self.host} does not speak TLS: {error}") from None
        self._check_fingerprint(tls)
        tls.settimeout(None)
        return tls

    def _check_fingerprint(self, tls: socket.socket) -> None:
        if not self.fingerprint:
            return
        import hashlib  # noqa: PLC0415 - only here

        certificate: bytes = tls.getpeercert(binary_form=True)  # type: ignore[attr-defined]
        found = hashlib.sha256(certificate).hexdigest()
        if found != self.fingerprint:
            with contextlib.suppress(OSError):
                tls.close()
            raise AuthenticationFailed(
                f"the certificate of https://{self.host} has the fingerprint {found}, not {self.fingerprint}"
            )
