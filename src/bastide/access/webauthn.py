"""Security keys: W3C Web Authentication, Level 2, by python-fido2. Challenges and answers are the browser's JSON.

A key is a second factor here: it need not verify its user (no PIN), and where it comes from is not asked (no
attestation). It is bound to the site's name it was registered for; the browser gives another site's page no answer.
"""

import hashlib
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fido2.server import Fido2Server
from fido2.webauthn import (
    AttestationConveyancePreference,
    AttestedCredentialData,
    AuthenticationResponse,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialUserEntity,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from bastide.model.factors import KeyFactor

ANSWER_LIMIT = 65_536
"""Characters of a browser's answer."""

_DISCOURAGED = UserVerificationRequirement.DISCOURAGED


class Refused(Exception):  # noqa: N818 - it names what happened, like the tree in base/errors.py
    """An answer that is not a registered key's to this challenge. Never leaves this room."""


@dataclass(frozen=True, slots=True)
class Site:
    """Whom keys are for: a domain (`id`), its shown name, the page's origin; with `subdomains` all of the domain's."""

    id: str
    name: str
    origin: str
    subdomains: bool = False

    def is_own(self, origin: str) -> bool:
        """Whether a page of that origin is the site's."""
        if origin.lower() == self.origin:
            return True
        try:
            parts = urlsplit(origin.lower())
            host = parts.hostname or ""
        except ValueError:
            return False
        return self.subdomains and parts.scheme == "https" and (host == self.id or host.endswith(f".{self.id}"))


def begin_registration(site: Site, userid: str, known: Sequence[KeyFactor]) -> tuple[str, str]:
    """What `navigator.credentials.create()` is asked, as JSON, and the challenge in it."""
    options, state = _server(site).register_begin(
        # A handle tells nobody who it is (section 14.6.1), and has at most 64 bytes.
        PublicKeyCredentialUserEntity(id=hashlib.sha256(userid.encode()).digest(), name=userid, display_name=userid),
        [_credential(key) for key in known if key.rp == site.id],
        resident_key_requirement=ResidentKeyRequirement.DISCOURAGED,
        user_verification=_DISCOURAGED,
        challenge=secrets.token_bytes(32),
    )
    return json.dumps(_plain(options)), str(state["challenge"])


def finish_registration(site: Site, challenge: str, answer: str) -> tuple[str, int]:
    """The new key's credential data, in base64, and its counter. Raises Refused."""
    try:
        made = _server(site).register_complete(_state(challenge), _read(answer))
        if made.credential_data is None:
            raise Refused("there is no key in it")
        return urlsafe_b64encode(made.credential_data).decode(), made.counter
    except Refused:
        raise
    except Exception as error:  # the library's decoders raise what they run into
        raise Refused(str(error)[:200]) from None


def begin_login(site: Site, keys: Sequence[KeyFactor]) -> dict[str, Any] | None:
    """What `navigator.credentials.get()` is asked; None when no enabled key is this site's."""
    own = [_credential(key) for key in keys if key.enable and key.rp == site.id]
    if not own:
        return None
    options, _ = _server(site).authenticate_begin(own, _DISCOURAGED, secrets.token_bytes(32))
    return _plain(options)


def finish_login(site: Site, keys: Sequence[KeyFactor], challenge: str, answer: str) -> KeyFactor:
    """The key that answered, with its new counter. Raises Refused.

    A counter that does not grow tells of a copy (section 6.1.1); keys without one always say 0.
    """
    own = {_credential(key).credential_id: key for key in keys if key.enable and key.rp == site.id}
    try:
        given = _read(answer)
        used = _server(site).authenticate_complete(_state(challenge), [_credential(key) for key in own.values()], given)
        counter = AuthenticationResponse.from_dict(given).response.authenticator_data.counter
        key = own[used.credential_id]
    except Exception as error:  # as above
        raise Refused(str(error)[:200]) from None
    if (counter or key.counter) and counter <= key.counter:
        raise Refused("the key's counter did not grow: there may be a copy of it")
    return key.model_copy(update={"counter": counter})


def _server(site: Site) -> Fido2Server:
    party = PublicKeyCredentialRpEntity(id=site.id, name=site.name)
    return Fido2Server(party, AttestationConveyancePreference.NONE, verify_origin=site.is_own)


def _state(challenge: str) -> dict[str, Any]:
    return {"challenge": challenge, "user_verification": _DISCOURAGED}


def _credential(key: KeyFactor) -> AttestedCredentialData:
    return AttestedCredentialData(urlsafe_b64decode(key.credential))


def _read(answer: str) -> dict[str, Any]:
    read = json.loads(answer) if len(answer) <= ANSWER_LIMIT else None
    if not isinstance(read, dict):
        raise Refused("it is not a credential's JSON")
    return read


def _plain(options: Any) -> dict[str, Any]:
    """The library's options as the JSON that browsers read: bytes are base64url already."""
    return {key: _values(value) for key, value in dict(options).items()}


def _values(value: Any) -> Any:
    if hasattr(value, "keys"):
        return {key: _values(value[key]) for key in value if value[key] is not None}
    if isinstance(value, (list, tuple)):
        return [_values(item) for item in value]
    return value
