"""Requests made from the table of routes, good and bad: what a fuzzer without a view into the program sends.

for ask in requests(Random(1), Place("testnode", lxc=100, qemu=101)):
    status, body = wire.send(ask)
"""

import gzip
import http.client
import json
import random
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from bastide.api.branches import routes
from bastide.api.openapi import operation_id, record_schema
from bastide.api.routing import Route
from framework.mutations import TOKENS, mutate

HOSTILE = (
    "", " ", "x", "\0", "\n", "a\nb", "a\r\nb: c", "\x0b", "\x85", "\u2028", "\ud800", "\u202e", "é" * 300,
    "\U0001f4a9", "..", "../../etc/passwd", "/etc/passwd", "%2e%2e%2f", "-rf", "--help", "$(id)", "`id`", ";id",
    "'", '"',
    "{}", "{0}",
    "%s%n", "<script>", "null", "true", "NaN", "Infinity", "-0", "1e3", "1_0", "0x64", "٣", "²", "-1", "0", "99", "100",
    "2147483648", "9223372036854775808", "9" * 400, "A" * 5000, "a,b=c", "=", ",", ",,", "a=1,a=2", "local:", ":",
    "local:8", "local:iso/x.iso", "other:1", "who@pve", "a@b@c", "who@pve!t", "UPID:", "01", "1.5", "🙂@pve", "::1",
    "10.0.0.1/33", "*", "*/0", "mon..xyz 99:99", "[", "(", "(?", "\\", "a" * 41, "f" * 40,
)  # fmt: skip
_CONTENT = ("application/x-www-form-urlencoded", "application/json", "multipart/form-data; boundary=x",
            "multipart/form-data", "text/plain", "application/xml", "", "application/json; charset=utf-16",
            "application/x-www-form-urlencoded; charset=latin-1", "a" * 300, "application/octet-stream")  # fmt: skip
_LEFT_OUT = {"get_bastide_events", "get_bastide_tasks_upid"}
"""A stream without an end, and one that waits for a task."""


Schema = tuple[dict[str, Any], dict[str, Any], set[str]]
"""What `record_schema` tells: properties, the patterns of keys with an index, what is required."""


@dataclass(frozen=True)
class Place:
    """What is there: paths name it in two of three requests."""

    node: str
    lxc: int
    qemu: int

    def value(self, name: str, path: str) -> str:
        """What there is for a placeholder of a path."""
        known = {"node": self.node, "vmid": str(self.qemu if "/qemu/" in path else self.lxc), "guest": str(self.lxc),
                 "storage": "local", "userid": "other@pve", "poolid": "team", "snapname": "one", "realm": "pve",
                 "roleid": "PVEAuditor", "groupid": "crew", "volume": "local:iso/x.iso", "tokenid": "t",
                 "id": "nightly", "upid": f"UPID:{self.node}:00000001:00000001:00000001:x:1:root@pam:"}  # fmt: skip
        return known.get(name, "x")


@dataclass(frozen=True)
class Ask:
    """A request as it goes over the wire. `route` is what it is aimed at."""

    route: Route
    target: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.route.method} {self.target[:300]} {dict(self.headers)} {self.body[:300]!r}"


class Wire:
    """A connection to a host's port of TLS, kept open; `headers` say who asks."""

    def __init__(self, port: int, headers: Mapping[str, str] | None = None) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=90, context=context)
        self._headers = dict(headers or {})

    def send(self, ask: Ask) -> tuple[int, bytes]:
        """The answer's status and body. A connection that the server has closed is opened anew, once."""
        for final in (False, True):
            try:
                self._connection.request(ask.route.method, ask.target, ask.body, {**self._headers, **ask.headers})
                answer = self._connection.getresponse()
                return answer.status, answer.read()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                self._connection.close()
                if final:
                    raise
            except http.client.IncompleteRead as error:
                raise AssertionError(f"half an answer to {ask}") from error
        raise AssertionError


def known_routes(pattern: str = "") -> list[Route]:
    """The routes that answer and end, whose `METHOD path` matches a pattern."""
    return [route for route in routes() if not route.websocket and operation_id(route) not in _LEFT_OUT
            and re.search(pattern, f"{route.method} {route.path}")]  # fmt: skip


def requests(rng: random.Random, place: Place, known: list[Route]) -> Iterator[Ask]:
    """Requests without an end, of every route in turn."""
    schemas = {id(route): record_schema(route.body or route.parameters) for route in known}
    while True:
        for route in known:
            yield _request(rng, place, route, schemas[id(route)])


def _request(rng: random.Random, place: Place, route: Route, schema: Schema) -> Ask:
    prefix = rng.choice(("/api2/json", "/api2/json", "/api2/extjs"))
    target = prefix + re.sub(r"\{([^}]+)\}", lambda found: _part(rng, place, found[1], route.path), route.path)
    values = _values(rng, schema, set(re.findall(r"\{([^}]+)\}", route.path)))
    if route.method in ("GET", "DELETE") and rng.random() < 0.9:
        query = urlencode([(key, _text(one)) for key, one in values], errors="replace")
        query = query if rng.random() < 0.9 else "".join(_printable(mutate(query.encode(), rng)))
        return Ask(route, f"{target}?{query[:6000]}" if query else target)
    body, headers = _body(rng, values)
    return Ask(route, target, body, headers)


def _printable(data: bytes) -> str:
    return re.sub(r"[^\x21-\x7e]", "", data.decode("latin-1")).replace("#", "")


def _part(rng: random.Random, place: Place, name: str, path: str) -> str:
    text = place.value(name, path) if rng.random() < 0.8 or name == "node" else rng.choice(HOSTILE)
    return quote(text[:400], safe="/" if name == "volume" else "", errors="replace") or "%20"


def _values(rng: random.Random, schema: Schema, path: set[str]) -> list[tuple[str, Any]]:
    properties, patterns, required = schema
    names = [name for name in properties if name not in path]
    few = set(rng.sample(names, min(len(names), rng.choice((0, 1, 1, 2, 3, 8)))))
    chosen = [name for name in names if name in few or (name in required and rng.random() < 0.9)]
    found = [(name, _value(rng, properties[name])) for name in chosen]
    for stem, one in patterns.items():
        if rng.random() < 2 / len(patterns):
            found.append((f"{stem}{rng.choice((0, 1, 7, 31, 99999, '', '00', 'x'))}", _value(rng, one)))
    if rng.random() < 0.1:
        found.append((rng.choice(("unknown", "", "__proto__", "net[n]", "é", "a\nb", "A" * 300)), "x"))
    if found and rng.random() < 0.1:
        found.append(rng.choice(found))
    return found


def _value(rng: random.Random, schema: Mapping[str, Any]) -> Any:
    if rng.random() < 0.3:
        return rng.choice((*HOSTILE, None, True, 1.5, [], {}, ["a", ["b"]], {"a": {"b": 1}}, -(2**63), 10**30))
    if "anyOf" in schema:
        return _value(rng, rng.choice(schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return rng.choice([*schema.get("enum", [schema.get("const")]), "x"])
    if "x-properties" in schema:
        pairs = [(key, _value(rng, one)) for key, one in schema["x-properties"].items() if rng.random() < 0.4]
        return ",".join(f"{key}={_text(one)}" for key, one in pairs)
    kind = schema.get("type")
    if kind == "array":
        return [_value(rng, schema.get("items", {})) for _ in range(rng.choice((0, 1, 2, 50)))]
    if kind == "object":
        return {key: _value(rng, one) for key, one in schema.get("properties", {}).items() if rng.random() < 0.5}
    if kind in ("integer", "number"):
        low, high = schema.get("minimum", 0), schema.get("maximum", 1000)
        return rng.choice((low, high, low - 1, high + 1, 0, 1, 2, 2**31, 2**63))
    if kind == "boolean":
        return rng.choice((0, 1, True, False, "yes", 2))
    longest = schema.get("maxLength", 40)
    return rng.choice(("web", "a" * longest, "a" * (longest + 1), "local:8", "local:iso/x.iso", "host", "100",
                       "1G", "name=eth0,bridge=vmbr0", "virtio,bridge=vmbr0", "order=1", "mon 2:00",
                       "pve", "/srv"))  # fmt: skip


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value)


def _body(rng: random.Random, values: list[tuple[str, Any]]) -> tuple[bytes, dict[str, str]]:
    form = rng.randrange(3)
    if form == 0:
        body = urlencode([(key, _text(one)) for key, one in values], errors="replace").encode()
    elif form == 1:
        body = json.dumps(dict(values)).encode()
    else:
        parts = [f'--x\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{_text(one)}\r\n' for key, one in values]
        body = "".join([*parts, "--x--\r\n"]).encode("utf-8", "surrogatepass")
    headers = {"Content-Type": _CONTENT[form]}
    odd = rng.randrange(20)
    if odd == 0:
        headers["Content-Type"] = rng.choice(_CONTENT)
    elif odd == 1:
        headers["Content-Encoding"] = rng.choice(("gzip", "br", "identity", "x"))
        body = gzip.compress(body) if rng.random() < 0.5 else body
    elif odd in (2, 3, 4):
        body = mutate(body, rng)
    elif odd == 5:
        body = rng.choice((b"[" * 20_000, b'{"a":' * 20_000, b"a=1&" * 3000, b"\xff\xfe" * 500, b"9" * 5000, b"null",
                           b'{"a": 1e999}', b'"x"', b"--x\r\n" * 500, rng.choice(TOKENS)))  # fmt: skip
    return body, {name: text for name, text in headers.items() if text}
