"""A real OpenID provider, `oidc-provider-mock`, and what a browser does at it.

with provider() as issuer:
    code, state = consent(auth_url, "ada")
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import oidc_provider_mock


@contextlib.contextmanager
def provider(**options: Any) -> Iterator[str]:
    """A provider on a port of its own; gives its issuer."""
    with oidc_provider_mock.run_server_in_thread(**options) as server:
        yield f"http://localhost:{server.server_port}"


def describe(issuer: str, sub: str, **claims: Any) -> None:
    """Have a user of the provider, with claims."""
    httpx.put(f"{issuer}/users/{sub}", json=claims).raise_for_status()


def consent(auth_url: str, sub: str) -> tuple[str, str]:
    """Log in at the provider as `sub`; the code and the state that it sends the browser back with."""
    answer = httpx.post(auth_url, data={"sub": sub})
    assert answer.status_code == 302, answer.text
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    return query["code"][0], query["state"][0]
