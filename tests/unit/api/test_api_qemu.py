"""VMs through the API: a life, their configuration, disks, agent, cloud-init, keyboard and monitor."""

import base64
from typing import Any

import pytest

from bastide.base.errors import DeadlineExceeded
from bastide.guest.fake_vm import FakeVmEngine
from framework.api import Api, call
from framework.rooms import TEMPLATE

pytestmark = pytest.mark.anyio

QEMU = "/nodes/pve/qemu"
VM = f"{QEMU}/100"


async def make(api: Api, vmid: int = 100, **options: Any) -> None:
    assert await api.wait(await api.data("POST", QEMU, vmid=vmid, **{"name": f"vm{vmid}", **options})) == "OK"


async def act(api: Api, action: str, **options: Any) -> None:
    assert await api.wait(await api.data("POST", f"{VM}/status/{action}", **options)) == "OK"


def engine(api: Api) -> FakeVmEngine:
    vms = api.services.rooms.vms
    assert isinstance(vms, FakeVmEngine)
    return vms


@pytest.fixture
async def vm(api: Api) -> Api:
    """A running VM 100 with a serial port, a network card and an agent."""
    await make(api, memory=64, agent=1, serial0="socket", net0="virtio,bridge=vmbr0")
    await act(api, "start")
    return api


async def test_a_life(api: Api) -> None:
    await make(api, memory=64, scsi0="local:1,format=raw", tags="b;a", description="two\nlines")
    assert [row["status"] for row in await api.data("GET", QEMU)] == ["stopped"]
    await act(api, "start", timeout=5)
    current = await api.data("GET", f"{VM}/status/current")
    assert (current["status"], current["qmpstatus"], current["name"]) == ("running", "running", "vm100")
    await act(api, "suspend")
    assert (await api.data("GET", f"{VM}/status/current"))["qmpstatus"] == "paused"
    for action in ("resume", "reset", "reboot", "shutdown", "start", "stop"):
        await act(api, action)
    config = await api.data("GET", f"{VM}/config")
    assert (config["description"], config["tags"], config["memory"]) == ("two\nlines", "b;a", "64")
    await api.data("PUT", f"{VM}/config", cores=2, digest=config["digest"])
    stale = await call(api.root, "PUT", f"{VM}/config", cores=3, digest=config["digest"])
    assert (stale.status_code, "modified configuration" in stale.json()["message"]) == (500, True)
    assert await api.wait(await api.data("PUT", f"{VM}/resize", disk="scsi0", size="+1G")) == "OK"
    assert "size=2G" in (await api.data("GET", f"{VM}/config"))["scsi0"]
    await api.data("PUT", f"{VM}/unlink", idlist="scsi0")
    unused = await api.data("GET", f"{VM}/config")
    assert ("scsi0" in unused, "unused0" in unused) == (False, True)
    assert await api.wait(await api.data("DELETE", VM, purge=1)) == "OK"
    assert await api.data("GET", QEMU) == []


async def test_what_is_of_the_other_kind_does_not_exist(api: Api) -> None:
    await make(api)
    assert await api.wait(await api.data("POST", "/nodes/pve/lxc", vmid=101, ostemplate=TEMPLATE)) == "OK"
    for path, file in (("qemu/101", "qemu-server/101"), ("lxc/100", "lxc/100"), ("qemu/102", "qemu-server/102")):
        answer = await call(api.root, "GET", f"/nodes/pve/{path}/config")
        assert answer.status_code == 500
        assert answer.json()["message"] == f"Configuration file 'nodes/pve/{file}.conf' does not exist\n"
    taken = await call(api.root, "POST", QEMU, vmid=101)
    assert "already exists" in taken.json()["message"]


@pytest.mark.parametrize(
    "options",
    [
        {"live-restore": 1}, {"ha-managed": 1}, {"usb0": "mapping=stick"}, {"hostpci0": "mapping=card"},
        {"virtiofs0": "share"},
    ],
    ids=str,
)  # fmt: skip
async def test_what_is_not_built_says_so(api: Api, options: dict[str, Any]) -> None:
    answer = await call(api.root, "POST", QEMU, vmid=100, **options)
    assert (answer.status_code, "not implemented" in answer.json()["message"]) == (501, True)
    assert await api.data("GET", QEMU) == []


async def test_off_is_not_asked_for(api: Api) -> None:
    await make(api, **{"ha-managed": 0, "unique": 0, "live-restore": "false", "bwlimit": 5})


async def test_a_cdrom_by_its_older_name(api: Api) -> None:
    await make(api, cdrom="none")
    assert (await api.data("GET", f"{VM}/config"))["ide2"] == "none,media=cdrom"
    await api.data("PUT", f"{VM}/config", delete="cdrom")
    assert "ide2" not in await api.data("GET", f"{VM}/config")


async def test_a_change_as_a_task(api: Api) -> None:
    await make(api)
    assert await api.wait(await api.data("POST", f"{VM}/config", cores=2)) == "OK"
    assert await api.data("POST", f"{VM}/config", cores=3, background_delay=5) is None
    assert (await api.data("GET", f"{VM}/config"))["cores"] == 3
    empty = await call(api.root, "POST", f"{VM}/config")
    assert empty.status_code == 400
    pending = await api.data("GET", f"{VM}/pending")
    assert {"key": "cores", "value": 3} in pending


async def test_passwords_are_not_shown(api: Api) -> None:
    await make(api, cipassword="correct horse", ide2="local:cloudinit,media=cdrom", ciuser="ada")
    for path in ("config", "pending", "cloudinit"):
        answer = await api.root.get(f"{VM}/{path}")
        assert ("horse" in answer.text, "$" in answer.text, "**********" in answer.text) == (False, False, True), path


async def test_features_are_told_as_they_are(api: Api) -> None:
    await make(api)
    for feature, there in (("clone", 0), ("copy", 1)):
        answer = {"hasFeature": there, "nodes": ["pve"] if there else []}
        assert await api.data("GET", f"{VM}/feature", feature=feature) == answer
    for method, path in (("POST", "migrate"), ("POST", "dbus-vmstate")):
        assert (await call(api.root, method, f"{VM}/{path}", action="stop")).status_code == 501


async def test_a_stop_overrules_ones_own_shutdown(vm: Api) -> None:
    await act(vm, "stop", **{"overrule-shutdown": 1})


async def test_the_agent_is_asked(vm: Api) -> None:
    absent = await call(vm.root, "POST", f"{VM}/agent/ping")
    assert (absent.status_code, absent.json()["message"]) == (500, "QEMU guest agent is not running\n")
    answers = engine(vm).answers
    answers |= {
        "guest-ping": {},
        "guest-get-host-name": {"host-name": "web"},
        "guest-fsfreeze-freeze": 2,
        "guest-fsfreeze-thaw": 2,
        "guest-exec": {"pid": 7},
        "guest-exec-status": {"exited": True, "exitcode": 3, "out-data": base64.b64encode(b"hi").decode()},
        "guest-shutdown": DeadlineExceeded("no answer"),
        "guest-set-user-password": {},
    }
    assert await vm.data("POST", f"{VM}/agent/ping") == {"result": {}}
    assert await vm.data("GET", f"{VM}/agent/get-host-name") == {"result": {"host-name": "web"}}
    assert await vm.data("POST", f"{VM}/agent", command="get-host-name") == {"result": {"host-name": "web"}}
    assert await vm.data("POST", f"{VM}/agent/fsfreeze-freeze") == {"result": 2}
    assert await vm.data("POST", f"{VM}/agent/fsfreeze-thaw") == {"result": 2}
    assert await vm.data("POST", f"{VM}/agent/shutdown") == {"result": {}}
    assert await vm.data("POST", f"{VM}/agent/set-user-password", username="ada", password="12345") == {"result": {}}
    argv = ["sh", "-c", "a\nb"]
    assert await vm.data("POST", f"{VM}/agent/exec", command=argv, **{"input-data": "in\0\x1b"}) == {"pid": 7}
    asked = next(arguments for _, _, command, arguments in engine(vm).told if command == "guest-exec")
    assert [asked["path"], *asked["arg"]] == argv
    assert base64.b64decode(asked["input-data"]) == b"in\0\x1b"
    status = await vm.data("GET", f"{VM}/agent/exec-status", pid=7)
    assert status == {"exited": 1, "exitcode": 3, "out-data": "hi"}
    assert (await call(vm.root, "POST", f"{VM}/agent", command="exec")).status_code == 400


async def test_the_agent_reads_and_writes_files(vm: Api) -> None:
    file = bytearray()
    place = 0

    def seek(arguments: dict[str, Any]) -> dict[str, Any]:
        nonlocal place
        place = arguments["offset"]
        return {"position": place, "eof": False}

    def read(arguments: dict[str, Any]) -> dict[str, Any]:
        data = bytes(file[place : place + arguments["count"]])
        return {"count": len(data), "buf-b64": base64.b64encode(data).decode(), "eof": place + len(data) >= len(file)}

    def write(arguments: dict[str, Any]) -> dict[str, Any]:
        file[:] = base64.b64decode(arguments["buf-b64"])
        return {"count": len(file), "eof": False}

    def open_file(_arguments: object) -> int:
        nonlocal place
        place = 0
        return 1

    engine(vm).answers |= {
        "guest-file-open": open_file, "guest-file-seek": seek, "guest-file-read": read, "guest-file-write": write,
        "guest-file-close": {},
    }  # fmt: skip
    await vm.data("POST", f"{VM}/agent/file-write", file="/a", content="grüße\n")
    assert bytes(file) == "grüße\n".encode()
    shown = await vm.data("GET", f"{VM}/agent/file-read", file="/a")
    assert shown == {"content": "grüße\n".encode().decode("latin-1"), "bytes-read": len(file)}
    await vm.data("POST", f"{VM}/agent/file-write", file="/a", content=base64.b64encode(b"\0\xff12").decode(), encode=0)
    assert bytes(file) == b"\0\xff12"
    shown = await vm.data("GET", f"{VM}/agent/file-read", file="/a", decode=0, offset=1, count=2)
    assert shown == {"content": base64.b64encode(b"\xff1").decode(), "bytes-read": 2, "truncated": 1}
    answer = await call(vm.root, "POST", f"{VM}/agent/file-write", file="/a", content="no base64!", encode=0)
    assert list(answer.json()["errors"]) == ["content"]


async def test_a_guest_without_an_agent_is_not_asked(api: Api) -> None:
    await make(api)
    stopped = await call(api.root, "GET", f"{VM}/agent/info")
    assert stopped.json()["message"] == "VM 100 is not running\n"
    await act(api, "start")
    assert (await call(api.root, "GET", f"{VM}/agent/info")).json()["message"] == "No QEMU guest agent configured\n"


async def test_keys_screen_and_monitor(vm: Api) -> None:
    await vm.data("PUT", f"{VM}/sendkey", key="ctrl-alt-delete")
    assert ("send_keys", 100, "ctrl", "alt", "delete") in engine(vm).told
    for key in ("", "ctrl--x", "a b", "-".join("abcdefghijklmnopqrstuvw"), "a;b"):
        assert (await call(vm.root, "PUT", f"{VM}/sendkey", key=key)).status_code == 400
    picture = await vm.root.get("/bastide/guests/vm100/screenshot")
    assert (picture.headers["content-type"], picture.content[:4]) == ("image/png", b"\x89PNG")
    assert await vm.data("POST", f"{VM}/monitor", command="stop") == "stop\r\n"
    await act(vm, "stop")
    for method, path, values in (
        ("PUT", f"{VM}/sendkey", {"key": "a"}),
        ("POST", f"{VM}/monitor", {"command": "info version"}),
        ("GET", "/bastide/guests/vm100/screenshot", {}),
    ):
        answer = await call(vm.root, method, path, **values)
        assert (answer.status_code, answer.json()["message"]) == (500, "VM 100 not running\n")


async def test_full_texts_for_cloud_init(api: Api) -> None:
    await make(api, ide2="local:cloudinit,media=cdrom")
    path = "/bastide/guests/vm100/cloudinit"
    assert await api.data("GET", path) == {}
    await api.data("PUT", path, user="#cloud-config\nhostname: x\n", meta="instance-id: 1\n")
    assert await api.data("GET", path) == {"user": "#cloud-config\nhostname: x\n", "meta": "instance-id: 1\n"}
    assert await api.data("GET", f"{VM}/cloudinit/dump", type="user") == "#cloud-config\nhostname: x\n"
    await api.data("PUT", path, user="")
    assert await api.data("GET", path) == {"meta": "instance-id: 1\n"}
    assert "hostname: vm100" in await api.data("GET", f"{VM}/cloudinit/dump", type="user")
    assert (await call(api.root, "PUT", path)).status_code == 400
    await api.data("PUT", f"{VM}/cloudinit")
    assert (
        await api.wait(await api.data("POST", "/nodes/pve/lxc", vmid=101, ostemplate=TEMPLATE, hostname="ct")) == "OK"
    )
    await api.data("PUT", "/bastide/guests/ct/cloudinit", user="#cloud-config\n")
    assert await api.data("GET", "/bastide/guests/ct/cloudinit") == {"user": "#cloud-config\n"}
    refused = await call(api.root, "PUT", "/bastide/guests/ct/cloudinit", network="version: 1\n")
    assert "net options" in refused.json()["errors"]["network"]


async def test_a_disk_moves(api: Api) -> None:
    await make(api, 100, scsi0="local:1,format=raw")
    await make(api, 101)
    assert await api.wait(await api.data("POST", f"{VM}/move_disk", disk="scsi0", format="qcow2", delete=1)) == "OK"
    assert ".qcow2" in (await api.data("GET", f"{VM}/config"))["scsi0"]
    stale = {"target-vmid": 101, "target-disk": "virtio0", "target-digest": "0" * 40}
    answer = await call(api.root, "POST", f"{VM}/move_disk", disk="scsi0", **stale)
    assert "modified configuration" in answer.json()["message"]
    given = {"target-vmid": 101, "target-disk": "virtio0"}
    assert await api.wait(await api.data("POST", f"{VM}/move_disk", disk="scsi0", **given)) == "OK"
    assert "vm-101-" in (await api.data("GET", f"{QEMU}/101/config"))["virtio0"]
