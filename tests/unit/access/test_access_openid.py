"""What of an OpenID provider is believed: tokens for this client, signed by the provider, for this login."""

import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from bastide.access import openid
from bastide.access.openid import OpenId
from bastide.access.realms import Realms
from bastide.base.errors import AuthenticationFailed, BastideError, HostFailure
from bastide.base.layout import Layout
from bastide.model.realm import Realm
from bastide.state.memory import MemoryStore

pytestmark = pytest.mark.anyio

ISSUER = "https://id.test/realms/x"
HERE = "https://pve:8006"
KEY, OTHER = RSAKey.generate_key(2048, {"kid": "1"}), RSAKey.generate_key(2048, {"kid": "1"})
SECRET = "the-client-key-of-bastide-which-is-long-enough"


def _signed(claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "RS256", "kid": "1"}, claims, KEY)


class Provider:
    """Answers in place of the network; what it answers can be changed."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, str], bytes]] = []
        self.discovery: dict[str, Any] = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/auth",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/keys",
            "userinfo_endpoint": f"{ISSUER}/info",
        }
        self.claims: dict[str, Any] = {}
        self.info: Any = {"sub": "ada", "email": "ada@x.test"}
        self.sign: Callable[[dict[str, Any]], str] = lambda claims: jwt.encode(
            {"alg": "RS256", "kid": "1"}, claims, KEY
        )
        self.token_status = 200

    async def __call__(
        self, method: str, url: str, _guard: Any, *, headers: Mapping[str, str], body: bytes = b"", limit: int = 0
    ) -> tuple[int, bytes]:
        self.asked.append((url, headers, body))
        if url.endswith("/.well-known/openid-configuration"):
            return 200, json.dumps(self.discovery).encode()
        if url.endswith("/keys"):
            return 200, json.dumps(KeySet([KEY]).as_dict(private=False)).encode()
        if url.endswith("/token"):
            return self.token_status, json.dumps({"id_token": self.sign(self.claims), "access_token": "at"}).encode()
        return 200, json.dumps(self.info).encode()


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    made = Provider()
    monkeypatch.setattr(openid, "exchange", made)
    return made


async def logins(tmp_path: Path, clock: Callable[[], float] = time.time, **options: Any) -> OpenId:
    realms = Realms(MemoryStore(), Layout(tmp_path))
    values = {"realm": "sso", "type": "openid", "issuer-url": ISSUER, "client-id": "bastide", **options}
    await realms.create(Realm.parse(values), {"client-key": SECRET})
    return OpenId(realms, clock)


async def begun(logins: OpenId, provider: Provider, **claims: Any) -> str:
    """The state of a login; the provider's token will be a good one but for these claims."""
    query = parse_qs(urlsplit(await logins.begin("sso", HERE)).query)
    now = int(time.time())
    provider.claims = {
        "iss": ISSUER, "aud": "bastide", "sub": "ada", "iat": now, "exp": now + 300, "nonce": query["nonce"][0],
        **claims,
    }  # fmt: skip
    provider.claims = {key: value for key, value in provider.claims.items() if value is not None}
    return query["state"][0]


async def test_a_good_token_is_believed(tmp_path: Path, provider: Provider) -> None:
    made = await logins(tmp_path)
    realm, claims = await made.finish(await begun(made, provider), "code", HERE)
    assert (realm.realm, claims["sub"], claims["email"]) == ("sso", "ada", "ada@x.test")
    redeemed = next(
        (headers, parse_qs(body.decode())) for url, headers, body in provider.asked if url.endswith("/token")
    )
    assert redeemed[0]["Authorization"].startswith("Basic ")
    assert len(redeemed[1]["code_verifier"][0]) >= 43
    assert SECRET not in str(redeemed[1])


@pytest.mark.parametrize(
    "claims",
    [{"iss": "https://id.test/realms/y"}, {"aud": "other"}, {"aud": ["other", "another"]}, {"nonce": "x"},
     {"nonce": None}, {"exp": 1_000_000_000}, {"exp": None}, {"iat": None}, {"iat": 2**33}, {"sub": None}, {"sub": 7},
     {"azp": "other"}, {"nbf": 2**33}],
    ids=str,
)  # fmt: skip
async def test_a_token_that_is_not_for_this_login_is_refused(
    tmp_path: Path, provider: Provider, claims: dict[str, Any]
) -> None:
    made = await logins(tmp_path, **{"query-userinfo": 0})
    with pytest.raises(AuthenticationFailed):
        await made.finish(await begun(made, provider, **claims), "code", HERE)


def _by_public_key(claims: dict[str, Any]) -> str:
    """What confuses who takes the provider's public key for a secret; no library signs so."""
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "kid": "1"}, claims)]
    text = ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    signature = hmac.digest(KEY.as_pem(private=False), text.encode(), "sha256")
    return f"{text}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _none(claims: dict[str, Any]) -> str:
    signed = jwt.encode({"alg": "none"}, claims, OctKey.generate_key(), algorithms=["none"])
    return signed if isinstance(signed, str) else str(signed)


@pytest.mark.parametrize(
    "sign",
    [
        lambda claims: jwt.encode({"alg": "RS256", "kid": "1"}, claims, OTHER),
        lambda claims: jwt.encode({"alg": "ES256"}, claims, ECKey.generate_key()),
        lambda claims: jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET)),
        _by_public_key,
        _none,
        lambda claims: "",
        lambda claims: "a.b.c",
        lambda claims: _signed(claims)[:-8] + "AAAAAAAA",
    ],
    ids=[
        "other key",
        "key that is not there",
        "client key",
        "public key as secret",
        "none",
        "empty",
        "noise",
        "changed",
    ],
)
async def test_a_token_that_the_provider_did_not_sign_is_refused(
    tmp_path: Path, provider: Provider, sign: Callable[[dict[str, Any]], str]
) -> None:
    made = await logins(tmp_path)
    state = await begun(made, provider)
    provider.sign = sign
    with pytest.raises(AuthenticationFailed):
        await made.finish(state, "code", HERE)


async def test_information_of_another_user_is_refused(tmp_path: Path, provider: Provider) -> None:
    made = await logins(tmp_path)
    for info in ({"sub": "eve", "email": "x"}, {"email": "x"}):
        provider.info = info
        with pytest.raises(AuthenticationFailed):
            await made.finish(await begun(made, provider), "code", HERE)
    provider.info = []
    with pytest.raises(HostFailure):
        await made.finish(await begun(made, provider), "code", HERE)


async def test_a_refused_code_is_a_failed_login(tmp_path: Path, provider: Provider) -> None:
    made = await logins(tmp_path)
    provider.token_status = 400
    with pytest.raises(AuthenticationFailed):
        await made.finish(await begun(made, provider), "code", HERE)


async def test_another_issuer_and_plain_endpoints_are_refused(tmp_path: Path, provider: Provider) -> None:
    made = await logins(tmp_path)
    provider.discovery["authorization_endpoint"] = "http://id.test/auth"
    with pytest.raises(HostFailure, match="authorization_endpoint"):
        await made.begin("sso", HERE)
    other = await logins(tmp_path / "other")
    provider.discovery["issuer"] = "https://evil.test"
    with pytest.raises(HostFailure, match="another issuer"):
        await other.begin("sso", HERE)
    asked = len(provider.asked)
    with pytest.raises(HostFailure, match="another issuer"):
        await other.begin("sso", HERE)
    assert len(provider.asked) == asked, "it is left alone for a while"


async def test_a_state_holds_for_ten_minutes_one_use_and_one_process(tmp_path: Path, provider: Provider) -> None:
    now = time.time()
    made = await logins(tmp_path, lambda: now)
    state = await begun(made, provider)
    await made.finish(state, "code", HERE)
    with pytest.raises(AuthenticationFailed, match="before"):
        await made.finish(state, "code", HERE)
    state = await begun(made, provider)
    now += openid.LIFETIME + 1
    with pytest.raises(AuthenticationFailed, match="too long ago"):
        await made.finish(state, "code", HERE)
    with pytest.raises(AuthenticationFailed, match="not begun here"):
        await (await logins(tmp_path / "other")).finish(state, "code", HERE)


@pytest.mark.parametrize("state", ["", ".", "...", "sso.0.x.y", "\ud800", "x" * 1024, "a.b.c.d.e.f"])
async def test_any_state_is_refused_alike(tmp_path: Path, provider: Provider, state: str) -> None:
    made = await logins(tmp_path)
    made.realm_of(state)
    with pytest.raises(BastideError, match="not begun here"):
        await made.finish(state, "code", HERE)
    assert provider.asked == []


async def test_a_client_without_a_key_says_its_name_alone(tmp_path: Path, provider: Provider) -> None:
    realms = Realms(MemoryStore(), Layout(tmp_path))
    values = {"realm": "sso", "type": "openid", "issuer-url": ISSUER, "client-id": "bastide"}
    await realms.create(Realm.parse(values), {})
    made = OpenId(realms)
    await made.finish(await begun(made, provider), "code", HERE)
    form = next(parse_qs(body.decode()) for url, _, body in provider.asked if url.endswith("/token"))
    assert form["client_id"] == ["bastide"]
    assert "client_secret" not in form
