"""Hostile text in every place of a path and in text parameters: refused by name or kept exactly, never acted on."""

import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bastide.api import parameters
from bastide.api.branches import routes
from bastide.api.openapi import operation_id
from bastide.base.errors import InvalidParameter
from bastide.model.container import ContainerOptions
from bastide.web.marks import LOCAL
from framework.api import Api, call

pytestmark = pytest.mark.anyio

TEMPLATE = "local:vztmpl/debian-12-test_1_amd64.tar.gz"
GOOD = {
    "node": "pve", "vmid": "100", "storage": "local", "upid": "UPID:pve:00000001:00000001:00000001:x:100:root@pam:",
    "poolid": "p", "userid": "root@pam", "tokenid": "t", "roleid": "PVEAdmin", "realm": "pve", "groupid": "g",
    "iface": "lo", "volume": "local:iso/x.iso", "guest": "web", "name": "not-there", "snapname": "one",
}  # fmt: skip
HOSTILE = [
    "..", ".", "../..", "../../etc/passwd", "/etc/passwd", "//etc", "..%2f..", "%2e%2e%2f", "..\\..", "a/../../b",
    "x\0", "x\0.conf", "x\ny", "x\r\nSet-Cookie: a=b", "x\ty", "\x0b", "\x85", "\u2028", "\u2029", "\ud800",
    "'", '"', "`id`", "$(id)", ";id", "|id", "-rf", "--help", "*", "?", "%", "%%", "%s%n", "{}", "{0}", "[n]",
    "é", "\u202etxt", "A" * 300, "é" * 5000, " ", " 100", "100 ", "1e3", "0x64", "-1", "99", "1000000000", "9" * 400,
    "local:../../../etc/shadow", "local:iso/../../x", "other:iso/x", "local:", ":", "local:iso/", "UPID:", "root@pam!t",
    "UPID:pve:00000001:00000001:00000001:x:../../x:root@pam:", "@", "a@b@c", "<script>", "null", "true", "NaN",
]  # fmt: skip


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    made = await Api.make(tmp_path)
    await made.wait(
        await made.data("POST", "/nodes/pve/lxc", vmid=100, ostemplate=TEMPLATE, hostname="web", unprivileged="1")
    )
    yield made
    await made.services.rooms.tasks.shutdown()


def cases() -> list[tuple[str, str, str]]:
    return [
        (route.method, route.path, name)
        for route in routes()
        for name in re.findall(r"\{(\w+)\}", route.path)
        if not route.websocket
    ]


async def ask(api: Api, method: str, path: str) -> tuple[int, str]:
    """One call without parameters, given to the application as the server would: no client tidies the path."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    decoded = path.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "scheme": "https", "server": ("pve", 8006),
        "client": None, "root_path": "", "headers": [], "query_string": b"", "path": decoded,
        "raw_path": quote(decoded).encode(), LOCAL: True,
    }  # fmt: skip
    await api.app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode("utf-8", "replace")


async def climb_nowhere(api: Api, tmp_path: Path, texts: list[str]) -> None:
    """Put each text in each place of each path: nothing breaks, is read or is deleted."""
    canary = tmp_path / "canary"
    canary.write_text(secrets.token_hex())
    before = canary.stat()
    climb = "../" * 12
    hostile = [*texts, str(canary), f"{climb}{canary}", f"local:iso/{climb}{canary}"]
    for method, path, name in cases():
        for text in hostile:
            filled = re.sub(r"\{([\w-]+)\}", lambda m, v={**GOOD, name: text}: v.get(m[1], "x"), path)
            status, answer = await ask(api, method, f"/api2/json{filled}")
            told = f"{method} {path} {name}={text[:60]!r}: {status} {answer[:200]}"
            assert "internal error" not in answer, told
            assert canary.read_text() not in answer, told
            if name in ("node", "vmid", "upid", "storage"):
                assert status in (400, 500, 501), told
    assert canary.stat().st_mtime_ns == before.st_mtime_ns
    assert [row["vmid"] for row in await api.data("GET", "/nodes/pve/lxc")] == [100], "something was deleted"


async def test_no_place_in_a_path_takes_hostile_text(api: Api, tmp_path: Path) -> None:
    """ATTACKS 22. Without the patterns of `base/ids.py` and `model/types.py` this fails."""
    await climb_nowhere(api, tmp_path, HOSTILE)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_no_place_in_a_path_takes_any_of_two_hundred_texts(api: Api, tmp_path: Path) -> None:
    """The same, encoded once and twice, behind something good and in front of it."""
    plain = [text for text in HOSTILE if text != "\ud800" and len(text) < 300]
    texts = [*(quote(text, safe="") for text in plain), *(quote(quote(text, safe=""), safe="") for text in plain),
             *(f"pve{text}" for text in plain), *(f"{text}100" for text in plain if text != "-")]  # fmt: skip
    assert len(texts) > 200
    await climb_nowhere(api, tmp_path, texts)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(["description", "hostname", "tags", "nameserver", "searchdomain", "net0", "mp0", "rootfs",
                         "features", "startup", "timezone", "entrypoint", "env", "hookscript", "dev0", "unused0"]),
    text=st.one_of(
        st.text(),
        st.sampled_from(HOSTILE),
        st.builds("{}{}{}".format, st.sampled_from(["name=eth0", "local:1,mp=/a", "order=1", "a", "nesting=1"]),
                  st.sampled_from(["\n", "\r", "\0", "\x0b", "\x85", "\u2028", "\n[x]\nlxc.mount.entry=", ",", "="]),
                  st.text(max_size=20)),
    ),
)  # fmt: skip
def test_no_option_carries_a_line_into_a_file(key: str, text: str) -> None:
    try:
        options = parameters.parse(ContainerOptions, {key: text})
    except InvalidParameter:
        return
    for name, value in options.to_text().items():
        if name not in ("description", "env"):
            assert not re.search(r"[\x00-\x1f\x7f\x85\u2028\u2029]", str(value)), (name, value)


async def test_the_methods_that_were_left_out_of_the_fuzz_refuse_nonsense_too(api: Api) -> None:
    for route in routes():
        if operation_id(route) in {"put_nodes_time", "post_storage", "post_nodes_storage_content"}:
            path = re.sub(r"\{(\w+)\}", lambda m: GOOD[m[1]], route.path)
            for text in (one for one in HOSTILE if one != "\ud800"):
                values = dict.fromkeys(("timezone", "path", "size", "filename", "storage", "type", "vmid"), text)
                wanted = {key: values[key] for key in values if key in dict.fromkeys(route.parameters.model_fields)}
                answer = await call(api.root, route.method, path, **{k: v for k, v in wanted.items() if k not in GOOD})
                assert answer.status_code == 400, (path, text, answer.text)
