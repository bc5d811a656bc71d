"""Which Bastide a program means: the one of this machine, or one named by the environment.

| variable | meaning |
|---|---|
| `BASTIDE_ROOT` | the folder of a Bastide on this machine that is not the machine's own |
| `BASTIDE_API` | `https://host:8006`: another machine's API |
| `BASTIDE_TOKEN` | `user@realm!name=secret`: the API token for it |
| `BASTIDE_CA` | a file of certificates to trust instead of the system's |
| `BASTIDE_FINGERPRINT` | the SHA-256 of the one certificate to trust |
"""

from collections.abc import Mapping

from bastide.base.errors import InvalidParameter
from bastide.base.layout import Layout
from bastide.client.transport import TlsTransport, Transport, UnixTransport


def is_remote(environ: Mapping[str, str]) -> bool:
    """Whether the environment names another machine."""
    return bool(environ.get("BASTIDE_API"))


def transport(layout: Layout, environ: Mapping[str, str]) -> Transport:
    """The way to the Bastide that is meant. Raises InvalidParameter when the environment is incomplete."""
    url = environ.get("BASTIDE_API")
    if not url:
        return UnixTransport(layout.socket)
    token = environ.get("BASTIDE_TOKEN")
    if not token or "!" not in token or "=" not in token:
        raise InvalidParameter(
            {"BASTIDE_TOKEN": "an API token, user@realm!name=secret, is needed: `bastide token create` makes one"}
        )
    if any(ord(char) < 33 or ord(char) > 126 for char in token):
        raise InvalidParameter({"BASTIDE_TOKEN": "a token holds printable characters only"})
    return TlsTransport(url, token, ca_file=environ.get("BASTIDE_CA"), fingerprint=environ.get("BASTIDE_FINGERPRINT"))
