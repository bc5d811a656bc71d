"""What goes over the wire: bodies in every form clients send, answers in the form they parse."""

import gzip
import json

import httpx
import pytest

from bastide.web.status import Status
from framework.api import Api, call

pytestmark = pytest.mark.anyio

VMID = {"vmid": "100", "ostemplate": "local:vztmpl/debian-12-test_1_amd64.tar.gz", "unprivileged": "1"}


def problem(answer: httpx.Response) -> dict[str, object]:
    assert answer.headers["content-type"] == "application/json;charset=UTF-8"
    body = answer.json()
    assert body["data"] is None
    return body


async def test_success_has_data_and_the_exact_content_type(api: Api) -> None:
    answer = await api.root.get("/version")
    assert answer.headers["content-type"] == "application/json;charset=UTF-8"
    assert float(answer.json()["data"]["release"]) == 9.1


async def test_every_faulty_parameter_is_named(api: Api) -> None:
    answer = await call(api.root, "POST", "/nodes/pve/lxc", vmid="5", memory="x", nonsense="1")
    assert answer.status_code == 400
    body = problem(answer)
    assert body["message"] == "Parameter verification failed.\n"
    assert set(body["errors"]) == {"vmid", "memory", "nonsense", "ostemplate"}
    assert body["errors"]["nonsense"] == "property is not defined in schema"


async def test_a_missing_guest_is_told_in_the_words_clients_match(api: Api) -> None:
    answer = await api.root.get("/nodes/pve/lxc/100/config")
    assert answer.status_code == 500
    assert problem(answer)["message"] == "Configuration file 'nodes/pve/lxc/100.conf' does not exist\n"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nope"), ("PATCH", "/version"), ("OPTIONS", "/version"), ("POST", "/nodes/pve/sdn"), ("GET", "/")],
)
async def test_what_is_not_there_is_not_implemented(api: Api, method: str, path: str) -> None:
    answer = await api.root.request(method, path)
    assert answer.status_code == 501
    assert problem(answer)["message"] == f"Method '{method} {path}' not implemented\n"


async def test_a_trailing_slash_and_doubled_slashes_do_not_matter(api: Api) -> None:
    assert (await api.root.get("/pools/")).status_code == 200
    assert (await api.root.get("https://pve:8006//api2/json//nodes//pve/status")).status_code == 200


async def test_head_is_get_and_the_cache_buster_is_ignored(api: Api) -> None:
    assert (await api.root.head("/version")).status_code == 200
    assert (await api.root.get("/version?_dc=1700000000")).status_code == 200


async def test_extjs_answers_200_with_the_outcome_in_the_body(api: Api) -> None:
    base = "https://pve:8006/api2/extjs"
    good = (await api.root.get(f"{base}/version")).json()
    bad = await api.root.get(f"{base}/nodes/pve/lxc/x/config")
    assert good["success"] == 1
    assert good["data"]["release"] == "9.1"
    assert bad.status_code == 200
    assert (bad.json()["success"], bad.json()["status"]) == (0, 400)


@pytest.mark.parametrize(
    "request_",
    [
        {"data": VMID},
        {"json": {**VMID, "vmid": 100, "unprivileged": True}},
        {"files": {key: (None, value) for key, value in VMID.items()}},
        {"content": json.dumps(VMID)},
        {"content": "&".join(f"{key}={value}" for key, value in VMID.items())},
        {"params": VMID},
        {"params": {"vmid": "100"}, "json": {key: value for key, value in VMID.items() if key != "vmid"}},
    ],
    ids=["form", "json", "multipart", "untyped json", "untyped form", "query", "query and body"],
)
async def test_bodies_come_in_every_form(api: Api, request_: dict[str, object]) -> None:
    answer = await api.root.post("/nodes/pve/lxc", **request_)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    assert await api.wait(answer.json()["data"]) == "OK"


@pytest.mark.parametrize("request_", [{}, {"json": {}}, {"content": b""}, {"data": {}}])
async def test_an_empty_body_is_no_parameters(api: Api, request_: dict[str, object]) -> None:
    answer = await api.root.post("/nodes/pve/lxc/100/status/start", **request_)  # type: ignore[arg-type]
    assert "does not exist" in answer.json()["message"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"[" * 100_000, "application/json", 400),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "application/json", 400),
        (b"[1]", "application/json", 400),
        (b'{"vmid":{"a":1}}', "application/json", 400),
        (b'{"vmid":' + b"9" * 5000 + b"}", "application/json", 400),
        (b"a=%ff", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"a=1" for _ in range(5000)), "application/x-www-form-urlencoded", 400),
        (b"--x\r\n", "multipart/form-data; boundary=x", 400),
        (b"junk", "multipart/form-data", 400),
        (b"a" * (512 * 1024 + 1), "application/x-www-form-urlencoded", 413),
        (b"<a/>", "application/xml", 415),
    ],
)
async def test_bodies_that_cannot_be_taken_are_refused(api: Api, content: bytes, kind: str, status: int) -> None:
    answer = await api.root.post("/nodes/pve/lxc", content=content, headers={"content-type": kind})
    assert answer.status_code == status
    assert "internal error" not in answer.text


async def test_a_parameter_may_repeat_the_path_but_not_contradict_it(api: Api) -> None:
    same = await api.root.get("/nodes/pve/lxc/100/config?vmid=100&node=pve")
    other = await api.root.get("/nodes/pve/lxc/100/config?vmid=101")
    assert same.status_code == 500
    assert other.status_code == 400
    assert "vmid" in other.json()["errors"]


async def test_another_node_does_not_exist_and_localhost_is_this_one(api: Api) -> None:
    answer = await api.root.get("/nodes/other/status")
    assert "no such cluster node 'other'" in answer.json()["message"]
    assert (await api.root.get("/nodes/localhost/version")).status_code == 200


async def test_a_repeated_key_is_a_list(api: Api) -> None:
    await api.wait(await api.data("POST", "/nodes/pve/lxc", **VMID, tags="a"))
    await api.root.put("/nodes/pve/lxc/100/config", content="delete=tags&delete=description")
    assert "tags" not in await api.data("GET", "/nodes/pve/lxc/100/config")


async def test_large_answers_are_gzipped_when_accepted(api: Api) -> None:
    plain = await api.root.get("/access/roles", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    async with api.root.stream("GET", "/access/roles", headers={"accept-encoding": "gzip"}) as packed:
        raw = b"".join([chunk async for chunk in packed.aiter_raw()])
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == plain.content


@pytest.mark.parametrize("text", ["one\r\nSet-Cookie: a=b", "ünïcode\x00", "x" * 5000, "", "\n\n"])
def test_a_reason_phrase_is_one_line_of_ascii(text: str) -> None:
    reason = Status(500, text).reason
    assert len(reason) <= 500
    assert all(" " <= char <= "~" for char in reason)
    assert "Set-Cookie" not in reason


async def test_an_unknown_exception_is_told_by_an_id_alone(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def explode() -> None:
        raise KeyError("secret-detail")

    monkeypatch.setattr(api.services.rooms.guests, "next_vmid", explode)
    answer = await api.root.get("/cluster/nextid")
    message = answer.json()["message"]
    assert answer.status_code == 500
    assert message.startswith("internal error ")
    assert "secret-detail" not in answer.text
    assert "secret-detail" in caplog.text
    assert message.split()[2].rstrip(":") in caplog.text
