"""Logging in at an OpenID provider (OpenID Connect Core 1.0): the authorization code flow with PKCE (RFC 7636).

A login's state is signed, not kept: it names its realm and the time it began, holds for ten minutes, for one use and
one address to come back to, and a flood of logins that were begun costs no memory. The nonce and PKCE's verifier
follow from it with a secret of this process, so a login does not outlive the daemon.
"""

import asyncio
import hashlib
import hmac
import json
import secrets
import time
from base64 import b64encode, urlsafe_b64encode
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from bastide.access.directory import guard_of
from bastide.access.realms import Realms
from bastide.base.errors import AuthenticationFailed, HostFailure, NotSupported
from bastide.host.download import exchange
from bastide.model.realm import Realm, secure_url

LIFETIME = 600
"""Seconds within which a login that was begun is finished."""

_USED_LIMIT = 65_536
_FRESH = 300.0
_FAILED = 5.0
"""Seconds that what a provider says of itself is believed, and that one is left alone which does not answer."""

_SCOPES = "email profile"
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
"""Signatures by a provider's own key; those made with a shared secret, and none at all, are no proof."""

Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Provider:
    realm: Realm
    found: Claims | HostFailure
    until: float


class OpenId:
    """Begins and finishes logins at providers. `clock` counts seconds since the epoch."""

    def __init__(self, realms: Realms, clock: Callable[[], float] = time.time) -> None:
        self._realms = realms
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._used: OrderedDict[str, float] = OrderedDict()
        self._providers: dict[str, _Provider] = {}
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def begin(self, name: str, redirect: str) -> str:
        """Where to send who logs in. Raises NotFound, NotSupported for another type of realm, HostFailure."""
        realm = await self._realm(name)
        provider = await self._provider(realm)
        state = self._state(name, redirect)
        query = {
            "response_type": "code",
            "client_id": realm.client_id,
            "redirect_uri": redirect,
            "scope": " ".join(dict.fromkeys(["openid", *(realm.scopes or _SCOPES).split()])),
            "state": state,
            "nonce": self._derive("nonce", state),
            "code_challenge": _unpadded(hashlib.sha256(self._derive("verifier", state).encode()).digest()),
            "code_challenge_method": "S256",
            "prompt": realm.prompt,
            "acr_values": realm.acr_values,
        }
        endpoint = _endpoint(provider, "authorization_endpoint")
        text = urlencode({key: value for key, value in query.items() if value})
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{text}"

    def realm_of(self, state: str) -> str:
        """The realm that a state claims to be of, for telling attempts apart; empty when it is no state."""
        return state.rsplit(".", 3)[0] if state.count(".") >= 3 else ""

    async def finish(self, state: str, code: str, redirect: str) -> tuple[Realm, Claims]:
        """What the provider says of who has logged in there.

        Raises AuthenticationFailed for a state or token that is not to be believed, NotFound, NotSupported,
        HostFailure.
        """
        realm = await self._realm(self._use(state, redirect))
        provider = await self._provider(realm)
        tokens = await self._redeem(realm, provider, state, code, redirect)
        claims = await self._believed(realm, provider, str(tokens.get("id_token", "")), self._derive("nonce", state))
        endpoint = provider.get("userinfo_endpoint")
        if realm.query_userinfo is False or endpoint is None:
            return realm, claims
        headers = {"Authorization": f"Bearer {tokens.get('access_token', '')}", "Accept": "application/json"}
        info = await _ask(realm, "GET", _endpoint(provider, "userinfo_endpoint"), headers)
        if info.get("sub") != claims["sub"]:
            raise AuthenticationFailed("the provider tells of another user than it let in")
        return realm, {**info, **claims}

    async def _realm(self, name: str) -> Realm:
        realm = await self._realms.get(name)
        if realm.type != "openid":
            raise NotSupported(f"realm '{name}' has the type {realm.type}: nobody logs in to it by OpenID")
        return realm

    async def _provider(self, realm: Realm) -> Claims:
        """What the provider says of itself (OpenID Connect Discovery 1.0), asked once by whoever asks at a time."""
        async with self._asking[realm.realm]:
            known = self._providers.get(realm.realm)
            if known is None or known.realm != realm or self._clock() >= known.until:
                known = self._providers[realm.realm] = await self._discover(realm)
            if isinstance(known.found, HostFailure):
                raise HostFailure(str(known.found))
            return known.found

    async def _discover(self, realm: Realm) -> "_Provider":
        issuer = str(realm.issuer_url).rstrip("/")
        try:
            found = await _ask(realm, "GET", f"{issuer}/.well-known/openid-configuration")
            if str(found.get("issuer", "")).rstrip("/") != issuer:
                raise HostFailure(f"the provider of realm '{realm.realm}' says that it is another issuer")
        except HostFailure as error:
            return _Provider(realm, error, self._clock() + _FAILED)
        return _Provider(realm, found, self._clock() + _FRESH)

    async def _redeem(self, realm: Realm, provider: Claims, state: str, code: str, redirect: str) -> Claims:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
            "code_verifier": self._derive("verifier", state),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        secret, client = self._realms.secret(realm), str(realm.client_id)
        methods = provider.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if secret is not None and "client_secret_basic" in methods:
            # RFC 6749, section 2.3.1: both are form-encoded first.
            pair = f"{quote(client, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": client, **({"client_secret": secret} if secret is not None else {})}
        return await _ask(realm, "POST", _endpoint(provider, "token_endpoint"), headers, urlencode(form).encode())

    async def _believed(self, realm: Realm, provider: Claims, token: str, nonce: str) -> Claims:
        """The claims of an ID token (OpenID Connect Core, section 3.1.3.7). Raises AuthenticationFailed."""
        # Loaded with the first login of this kind.
        from joserfc import jwt  # noqa: PLC0415
        from joserfc.errors import JoseError  # noqa: PLC0415
        from joserfc.jwk import KeySet  # noqa: PLC0415

        keys: Any = await _ask(realm, "GET", _endpoint(provider, "jwks_uri"))
        try:
            claims = jwt.decode(token, KeySet.import_key_set(keys), algorithms=_ALGORITHMS).claims
            jwt.JWTClaimsRegistry(
                now=lambda: int(self._clock()),
                leeway=60,
                iss={"essential": True, "value": str(provider["issuer"])},
                aud={"essential": True, "value": str(realm.client_id)},
                sub={"essential": True},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": nonce},
            ).validate(claims)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise AuthenticationFailed(f"the provider's token is not to be believed: {type(error).__name__}") from None
        if claims.get("azp", realm.client_id) != realm.client_id or not isinstance(claims["sub"], str):
            raise AuthenticationFailed("the provider's token is for another client")
        return claims

    def _state(self, realm: str, redirect: str) -> str:
        text = f"{realm}.{int(self._clock()):x}.{secrets.token_urlsafe(24)}"
        return f"{text}.{self._derive('state', text, redirect)}"

    def _use(self, state: str, redirect: str) -> str:
        """The realm of a state, which is used up. Raises AuthenticationFailed."""
        text, _, signature = state.rpartition(".")
        if not hmac.compare_digest(signature.encode(errors="replace"), self._derive("state", text, redirect).encode()):
            raise AuthenticationFailed("this login was not begun here")
        realm, begun, _ = text.rsplit(".", 2)
        now = self._clock()
        if not -60 <= now - int(begun, 16) <= LIFETIME or state in self._used:
            raise AuthenticationFailed("this login was finished before, or begun too long ago")
        self._used[state] = now
        while len(self._used) > _USED_LIMIT or now - next(iter(self._used.values())) > LIFETIME + 60:
            self._used.popitem(last=False)
        return realm

    def _derive(self, purpose: str, *parts: str) -> str:
        text = "\0".join((purpose, *parts))
        return _unpadded(hmac.digest(self._secret, text.encode(errors="surrogatepass"), hashlib.sha256))


async def _ask(
    realm: Realm, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Claims:
    """The JSON object that a provider answers. Raises HostFailure, AuthenticationFailed when it refuses a code."""
    status, text = await exchange(method, url, guard_of(realm), headers=headers or {}, body=body)
    if method == "POST" and 400 <= status < 500:
        raise AuthenticationFailed(f"the provider refuses the code ({status})")
    if status != 200:
        raise HostFailure(f"the provider of realm '{realm.realm}' answers {status}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise HostFailure(f"the provider of realm '{realm.realm}' does not answer with JSON")
    return found


def _endpoint(provider: Claims, name: str) -> str:
    try:
        return secure_url(str(provider[name]))
    except (KeyError, ValueError):
        raise HostFailure(f"the provider's {name} is missing, or no https:// URL") from None


def _unpadded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
