"""Values that try to be more than values, in every parameter of every method that writes: in process, over the fakes.

Attack classes 9 (line ends), 10 (options) and 11 (arguments). The methods and their parameters come from the declared
routes, so that a new one is attacked on the day it is made.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import httpx
import pytest

from bastide.api.branches import routes
from bastide.api.parameters import parse
from bastide.api.routing import Route
from bastide.base.errors import InvalidParameter
from bastide.model.record import Multiline, Record, indexed_fields
from bastide.storage.registry import DRIVERS
from framework.api import Api, call
from framework.rooms import FAKE_STORAGES, TEMPLATE

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]  # in process, and many calls

ENDS = ["\n", "\r", "\0", "\x0b", "\x85", "\u2028"]
TEXTS = {
    "comment", "description", "notes", "command", "text", "user_data", "user", "network", "vendor", "meta", "keyring",
    "ssh-public-keys", "input-data", "content", "consent-text", "value",
}  # fmt: skip
"""Parameters that may hold several lines; none of them is a line of a file that a program obeys."""
PLACES = {
    "node": "pve", "vmid": "100", "guest": "100", "storage": "local", "userid": "eve@pve", "tokenid": "t", "id": "job",
    "roleid": "Mine", "groupid": "friends", "poolid": "shop", "snapname": "one", "server": "mirror", "name": "thing",
    "volume": TEMPLATE, "realm": "pam", "upid": "UPID:pve:00000001:00000001:00000001:x:100:root@pam:",
}  # fmt: skip

LISTS = (
    "/storage", "/pools", "/access/users", "/access/groups", "/access/roles", "/access/acl", "/cluster/backup",
    "/nodes/pve/lxc/100/config", "/nodes/pve/qemu/200/config", "/nodes/pve/storage/local/content",
    "/nodes/pve/lxc/100/snapshot", "/nodes/pve/qemu/200/snapshot", "/access/users/eve@pve/token",
)  # fmt: skip


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """The container 100, the VM 200, and one of each thing that has a name."""
    made = await Api.make(tmp_path, FAKE_STORAGES)
    upid = await made.data("POST", "/nodes/pve/lxc", vmid=100, ostemplate=TEMPLATE, unprivileged=1, rootfs="local:1")
    assert await made.wait(upid) == "OK"
    assert await made.wait(await made.data("POST", "/nodes/pve/qemu", vmid=200, scsi0="local:1,format=raw")) == "OK"
    for vmid, kind in ((100, "lxc"), (200, "qemu")):
        assert await made.wait(await made.data("POST", f"/nodes/pve/{kind}/{vmid}/snapshot", snapname="one")) == "OK"
    await made.data("POST", "/access/users", userid="eve@pve")
    await made.data("POST", "/access/users/eve@pve/token/t")
    await made.data("POST", "/access/groups", groupid="friends")
    await made.data("POST", "/access/roles", roleid="Mine", privs="VM.Audit")
    await made.data("POST", "/pools", poolid="shop")
    await made.data("POST", "/cluster/backup", id="job", all=1, storage="local", schedule="daily", mode="stop")
    (tmp_path / "more").mkdir()
    await made.data("POST", "/storage", storage="more", type="dir", path=str(tmp_path / "more"), content="iso")
    yield made
    await made.services.rooms.tasks.shutdown()


def writes() -> list[Route]:
    """Every method that changes something, in the order of the tree."""
    return [route for route in routes() if route.method != "GET" and not route.websocket]


def path_of(route: Route, **places: str) -> str:
    """The route's path with the things of `api` in its places."""
    vm = "200" if "/qemu/" in route.path else "100"
    store = "more" if route.path == "/storage/{storage}" else "local"
    values = {**PLACES, "vmid": vm, "storage": store, **places}
    return re.sub(r"\{([^}]+)\}", lambda found: values.get(found[1], "x"), route.path)


def keys_of(kind: type[Record]) -> dict[str, str]:
    """Every parameter: its name, and how a caller writes it (`net0` for an entry of `net`)."""
    indexed = indexed_fields(kind)
    names = [field.alias or name for name, field in kind.model_fields.items()]
    return {name: f"{indexed[name]}0" if name in indexed else name for name in names}


def takes_text(kind: type[Record], key: str) -> bool:
    """Whether a parameter is more than a number or a switch."""
    field = next(field for name, field in kind.model_fields.items() if (field.alias or name) == key)
    kinds = {field.annotation, *get_args(field.annotation)} - {type(None)}
    return not kinds <= {int, bool, float}


def texts_of(kind: type[Record]) -> dict[str, Multiline]:
    """The parameters that are marked as texts of several lines."""
    marked = {}
    for name, field in kind.model_fields.items():
        for mark in field.metadata:
            if isinstance(mark, Multiline):
                marked[field.alias or name] = mark
    return marked


async def send(api: Api, route: Route, **values: str) -> httpx.Response:
    """One call of a route, whose body is a file's where the route reads that itself."""
    if route.raw:
        return await api.root.request(route.method, path_of(route), params=values, content=b"")
    return await call(api.root, route.method, path_of(route), **values)


async def everything(api: Api) -> dict[str, Any]:
    """What the host is made of, as its lists tell it."""
    return {path: await api.data("GET", path) for path in LISTS}


async def test_no_parameter_of_any_write_takes_a_line_end(api: Api) -> None:
    """Class 9: each parameter of each method refuses each control character by name, and nothing has changed.

    Without `forbidden_character` in `model/record.py` this fails.
    """
    before = await everything(api)
    asked, let_through = 0, []
    for route in writes():
        places = set(re.findall(r"\{([^}]+)\}", route.path))
        for key, written in keys_of(route.parameters).items():
            if key in places or key in TEXTS:
                continue
            for end in ENDS if takes_text(route.parameters, key) else "\n":
                value = f"1{end}[snapshot]{end}lxc.mount.entry = / mnt none bind 0 0"
                answer = await send(api, route, **{written: value})
                asked += 1
                named = answer.status_code == 400 and written in (answer.json().get("errors") or {})
                if not named and (key, end) != ("env", "\0"):
                    let_through.append((route.method, route.path, written, end, answer.status_code, answer.text[:200]))
    assert let_through == []
    assert asked > 3000
    assert await everything(api) == before


async def test_no_place_in_a_path_takes_a_line_end(api: Api) -> None:
    """Class 9: as above, for what a path names. Without `forbidden_character` in `model/record.py` this fails."""
    before = await everything(api)
    for route in writes():
        for place in set(re.findall(r"\{([^}]+)\}", route.path)):
            for end in ENDS:
                value = quote(f"{PLACES.get(place, 'x')}{end}[snapshot]", safe="")
                answer = await call(api.root, route.method, path_of(route, **{place: value}))
                assert answer.status_code in (400, 404, 501), (route.path, place, end, answer.text)
    assert await everything(api) == before


def test_every_text_of_several_lines_is_known() -> None:
    """A parameter becomes one of several lines by a decision, and is then one of the round trips below."""
    marked = {key for route in writes() for key in texts_of(route.parameters)}
    assert marked == TEXTS | {"env"}


PRINTABLE = [
    "a,x=y", "a,,id=b", "=", "a -device isa-debug-exit", "-rf", "$(id)", "a;id", ":", "'\"\\", "%0a", "../../x",
    "#comment", "[section]", "\u00e9\u202e",
]  # fmt: skip
LINES = ["a\nb", "a\n[section]\nargs: -S", "a\r\n\tb: c", "#qmdump#map:scsi0:x:y:raw:", "\nlxc.cap.drop ="]
SHOWN_OTHERWISE = {"password", "keys", "digest", "delete", "revert", "cipassword", "encryption-key", "master-pubkey"}
"""What is never shown, or no option of the thing."""


def needed(route: Route) -> set[str]:
    """What a method wants beside its path."""
    fields = route.parameters.model_fields
    names = {field.alias or name for name, field in fields.items() if field.is_required()}
    return names - set(re.findall(r"\{([^}]+)\}", route.path))


def readable() -> list[Route]:
    """Methods that change what a GET of the same path, or of the list it is in, shows."""
    gets = [route for route in routes() if route.method == "GET"]
    shown = {route.path for route in gets if not needed(route)}
    return [route for route in writes() if route.method == "PUT" and route.path in shown and not route.raw]


async def test_a_value_is_kept_as_it_is_or_refused(api: Api) -> None:
    """Classes 9 and 10: what a change sets is what is shown then, and nothing beside it has changed.

    Without the refusal of unknown keys in `base/propstring.py` or `model/record.py` this fails.
    """
    kept = [route for route in readable() if (await api.root.get(path_of(route))).status_code == 200]
    assert len(kept) > 12
    for route in kept:
        await keeps(api, route)


async def keeps(api: Api, route: Route) -> None:
    """Set every text of a method to every odd value, and look at what it shows before and after."""
    path = path_of(route)
    places = set(re.findall(r"\{([^}]+)\}", route.path))
    before = await shown(api, path)
    for key, written in keys_of(route.parameters).items():
        if key in places or not takes_text(route.parameters, key) or key in SHOWN_OTHERWISE:
            continue
        for text in PRINTABLE + (LINES if key in texts_of(route.parameters) else []):
            answer = await call(api.root, "PUT", path, **{written: text})
            assert answer.status_code in (200, 400, 403, 500, 501), (key, text, answer.text)
            assert "internal error" not in answer.text, (key, text)
            if answer.status_code != 200:
                continue
            after = await shown(api, path)
            others = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
            assert others <= {written}, (key, text, others)
            assert after.get(written) in said(route, written, text), (key, text, after.get(written))
            before = after
        assert await shown(api, path) == before, (key, "what was refused has changed something")


def said(route: Route, key: str, text: str) -> list[object]:
    """A value, and how else it may be shown: as the record writes it, with a last line end or without, not at all."""
    ways: list[object] = [text, [text], text.strip(), f"{text}\n", text.rstrip("\r\n\t "), None]
    with contextlib.suppress(InvalidParameter):
        places = {name: PLACES[name] for name in re.findall(r"\{([^}]+)\}", route.path) if name in PLACES}
        ways.append(parse(route.parameters, {**places, key: text}).to_text().get(key))
    return ways


async def shown(api: Api, path: str) -> dict[str, Any]:
    """What a GET of the path shows; a list counts as one value."""
    data = await api.data("GET", path)
    found = data if isinstance(data, dict) else {"": data}
    return {key: value for key, value in found.items() if key not in ("digest", "next-run", "time", "localtime")}


MARK = "zq7evil"
EVIL = [f"-{MARK}", f"--{MARK}=x", f"{MARK},x=y", f"$({MARK})", f"{MARK};id", f"a -o {MARK}"]
STORES: dict[str, dict[str, str]] = {
    "dir": {"path": "PATH"}, "btrfs": {"path": "PATH"}, "nfs": {"server": "192.0.2.1", "export": "/srv/x"},
    "cifs": {"server": "192.0.2.1", "share": "media", "username": "ada", "password": "word"},
    "cephfs": {"monhost": "192.0.2.1", "username": "ada", "keyring": "AQAA"}, "lvm": {"vgname": "vg"},
    "lvmthin": {"vgname": "vg", "thinpool": "data"}, "zfspool": {"pool": "tank/data"},
    "rbd": {"pool": "rbd", "monhost": "192.0.2.1", "username": "ada", "keyring": "AQAA"},
    "iscsi": {"portal": "192.0.2.1", "target": "iqn.2026-01.test:x"}, "borg": {"path": "PATH"},
}  # fmt: skip

HANDED_ON = {"nfs", "cifs", "borg"}
"""Types of which a program gets such a value, as an operand; the others' patterns leave nothing of it."""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The processes that would have been started; none is."""
    seen: list[list[str]] = []

    async def refuse(*argv: str, **_: Any) -> None:
        seen.append([str(word) for word in argv])
        raise FileNotFoundError(argv[0])

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    return seen


@pytest.mark.parametrize("kind", STORES)
async def test_no_option_of_a_storage_becomes_an_argument(tmp_path: Path, started: list[list[str]], kind: str) -> None:
    """Class 11: programs get a storage's values as operands or behind `=`, never as options, and never by a shell.

    Without `--` or the joining with what stands before it an operand that begins with `-` would fail here.
    """
    api = await Api.make(tmp_path, DRIVERS)
    (tmp_path / "base").mkdir()
    good = {key: str(tmp_path / "base") if value == "PATH" else value for key, value in STORES[kind].items()}
    route = next(route for route in writes() if (route.method, route.path) == ("POST", "/storage"))
    for key in keys_of(route.parameters):
        if key in ("type", "storage", "keyring") or not takes_text(route.parameters, key):
            continue
        for evil in EVIL:
            text = f"{tmp_path}/{evil}" if key == "path" and "path" in good else evil
            answer = await call(api.root, "POST", "/storage", **{"storage": "mine", "type": kind, **good, key: text})
            assert "internal error" not in answer.text, (key, text, answer.text)
            if answer.status_code == 200:
                await call(api.root, "DELETE", "/storage/mine")
    assert_arguments(started)
    assert any(MARK in str(argv) for argv in started) == (kind in HANDED_ON)
    await api.services.rooms.tasks.shutdown()


def assert_arguments(started: list[list[str]]) -> None:
    """No shell; what holds a stranger's words is no option unless it stands behind the option's own name."""
    for argv in started:
        assert Path(argv[0]).name not in ("sh", "bash", "dash"), argv
        operands = argv[argv.index("--") :] if "--" in argv else []
        for word in argv:
            if MARK in word and word not in operands and word.startswith("-"):
                assert re.match(rf"--?[a-z-]+=(?!-).*{MARK}", word), argv
