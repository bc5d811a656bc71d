"""Second factors: what a user has besides the password, and how often it was answered wrongly.

The kinds are Proxmox VE's: codes of the time (TOTP, RFC 6238), security keys (WebAuthn), and recovery codes.
"""

import ipaddress
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from bastide.model.record import PropertyString, Record
from bastide.model.types import UserId, is_dns_name

FactorKind = Literal["totp", "u2f", "webauthn", "recovery", "yubico"]
"""The kinds of the reference; `u2f` and `yubico` are not built."""

RECOVERY_ID = "recovery"
"""The id of a user's recovery codes, of which there is one set."""

MOST_ENTRIES = 20
"""Entries of one kind that a user may have: all security keys are named in the challenge of each login."""


class Factor(Record):
    """What every entry has. `created` in seconds since the epoch."""

    id: str
    description: str = ""
    created: int
    enable: bool = True


class TotpFactor(Factor):
    """A source of codes. `sealed` is its sealed secret, `last` the last step (period) that a code was taken of."""

    sealed: Annotated[str, Field(repr=False)]
    last: int = -1


class KeyFactor(Factor):
    """A security key: the site's name (`rp`) it is for, its attested credential data in base64, its counter."""

    rp: str
    credential: str
    counter: int = 0


class RecoveryCodes(Record):
    """Recovery codes: keyed hashes, an empty text in place of a used one."""

    created: int
    salt: Annotated[str, Field(repr=False)]
    hashes: tuple[str, ...]

    @property
    def left(self) -> list[int]:
        """Which codes are unused, counted from 0."""
        return [index for index, text in enumerate(self.hashes) if text]


class Factors(Record):
    """All of one user's factors. `state` changes whenever one is added, changed, removed or answered rightly.

    `totp_failures` are wrong codes in a row, `failures` all other wrong answers; `totp_locked` refuses TOTP until it is
    unlocked, `locked_until` (seconds since the epoch) everything until then.
    """

    userid: UserId
    state: str
    totp: tuple[TotpFactor, ...] = ()
    webauthn: tuple[KeyFactor, ...] = ()
    recovery: RecoveryCodes | None = None
    totp_failures: int = 0
    failures: int = 0
    totp_locked: bool = False
    locked_until: int = 0

    @property
    def needed(self) -> bool:
        """Whether a login needs a second step: an entry is enabled, or there are recovery codes, also used ones."""
        return any(entry.enable for entry in (*self.totp, *self.webauthn)) or self.recovery is not None

    def entries(self) -> list[tuple[FactorKind, Factor]]:
        """Every entry with its kind, recovery codes as one that is always enabled."""
        found: list[tuple[FactorKind, Factor]] = [("totp", entry) for entry in self.totp]
        found += [("webauthn", entry) for entry in self.webauthn]
        if self.recovery is not None:
            found.append(("recovery", Factor(id=RECOVERY_ID, created=self.recovery.created)))
        return found


def _site_name(text: str) -> str:
    if not is_dns_name(text) or re.fullmatch(r"[0-9.]+", text, re.ASCII):
        raise ValueError(f"'{text[:80]}' is not a domain name; WebAuthn takes no addresses")
    return text.lower()


def _origin(text: str) -> str:
    try:
        parts = urlsplit(text)
        plain = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        plain = False
    if not plain or text != f"https://{parts.netloc}" or "@" in parts.netloc:
        raise ValueError(f"'{text[:80]}' is not an origin such as https://pve.example.org:8006")
    return text.lower()


class WebauthnOptions(PropertyString):
    """The site that security keys are for: `rp=TEXT,id=pve.example.org,origin=https://pve.example.org:8006`."""

    rp: Annotated[str | None, Field(max_length=64)] = None
    id: Annotated[str | None, AfterValidator(_site_name)] = None
    origin: Annotated[str | None, Field(max_length=300), AfterValidator(_origin)] = None
    allow_subdomains: Annotated[bool | None, Field(alias="allow-subdomains")] = None


def is_address(host: str) -> bool:
    """Whether the host's name is an IP address, in brackets or not."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
