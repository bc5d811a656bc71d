"""What is root@pam's alone, by every way in: no administrator and no token gets it, and root does.

Attack classes 12 and 13, in process over the fakes. By way of a crafted backup they are attacked in
`test_security_backups.py`, by way of clones of what root made in `test_security_copies.py`.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from framework.api import Api, call
from framework.rooms import FAKE_STORAGES, TEMPLATE

pytestmark = pytest.mark.anyio

CT, VM = "/nodes/pve/lxc", "/nodes/pve/qemu"
KEYS: list[tuple[str, dict[str, str]]] = [
    (VM, {"args": "-device pci-testdev"}),
    (VM, {"hookscript": "local:snippets/x.sh"}),
    (VM, {"hostpci0": "0000:00:02.0"}),
    (VM, {"hostpci0": "0000:00:02.0,romfile=x.rom"}),
    (VM, {"serial0": "/dev/ttyS0"}),
    (VM, {"parallel0": "/dev/parport0"}),
    (VM, {"usb0": "host=1234:5678"}),
    (VM, {"scsi1": "/dev/sda"}),
    (VM, {"ide2": "/etc/shadow,media=cdrom"}),
    (VM, {"scsi1": "local:0,import-from=/etc/shadow"}),
    (VM, {"lock": "migrate"}),
    (CT, {"mp0": "/srv,mp=/mnt"}),
    (CT, {"dev0": "/dev/null"}),
    (CT, {"hookscript": "local:snippets/x.sh"}),
    (CT, {"features": "keyctl=1"}),
    (CT, {"features": "fuse=1,nesting=1"}),
    (CT, {"features": "mount=ext4"}),
    (CT, {"features": "force_rw_sys=1"}),
    (CT, {"lock": "migrate"}),
]
BACKUPS: list[dict[str, str]] = [{"tmpdir": "/srv"}, {"dumpdir": "/srv"}, {"script": "/bin/true"}]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """The container 100 and the VM 200."""
    made = await Api.make(tmp_path, FAKE_STORAGES)
    upid = await made.data("POST", CT, vmid=100, ostemplate=TEMPLATE, unprivileged=1, rootfs="local:1")
    assert await made.wait(upid) == "OK"
    assert await made.wait(await made.data("POST", VM, vmid=200, scsi0="local:0.01,format=raw")) == "OK"
    yield made
    await made.services.rooms.tasks.shutdown()


async def others(api: Api) -> dict[str, httpx.AsyncClient]:
    """Everybody who may do everything and is not root@pam."""
    full = await api.token("admin@pve", grants={"/": "Administrator"})
    apart = await api.token("apart@pve", grants={"/": "Administrator"}, privsep=1)
    await api.data("PUT", "/access/acl", path="/", tokens="apart@pve!t", roles="Administrator")
    made = await api.data("POST", "/access/users/root@pam/token/t", privsep=0)
    roots = await api.token("none@pve")
    roots.headers["Authorization"] = f"PVEAPIToken={made['full-tokenid']}={made['value']}"
    await api.data("POST", "/access/users", userid="person@pve", password="open-sesame")
    await api.data("PUT", "/access/acl", path="/", users="person@pve", roles="Administrator")
    login = (await call(api.client, "POST", "/access/ticket", username="person@pve", password="open-sesame")).json()
    api.client.headers["Cookie"] = f"PVEAuthCookie={login['data']['ticket']}"
    api.client.headers["CSRFPreventionToken"] = login["data"]["CSRFPreventionToken"]
    return {"a full token": full, "a separate token": apart, "root's token": roots, "a person": api.client}


def ways(kind: str, options: dict[str, str]) -> list[tuple[str, str, dict[str, Any]]]:
    """The calls that set options of a guest: when it is made and later."""
    vmid = 100 if kind == CT else 200
    new: dict[str, Any] = {"ostemplate": TEMPLATE, "unprivileged": 1} if kind == CT else {}
    found: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", kind, {"vmid": 300, **new, **options}),
        ("PUT", f"{kind}/{vmid}/config", options),
        ("PUT", f"{kind}/{vmid}/config", {**options, "description": "x"}),
    ]
    if kind == VM:
        found.append(("POST", f"{kind}/{vmid}/config", options))
    return found


async def test_what_is_roots_alone_is_nobodys_else(api: Api) -> None:
    """ATTACKS 12 and 13: every key by every call that sets it, by everybody who is not root.

    Without `lxc_permissions.py` or `qemu_permissions.py` this fails.
    """
    people = await others(api)
    before = [await api.data("GET", path) for path in (f"{CT}/100/config", f"{VM}/200/config", CT, VM)]
    let_through = []
    for kind, options in KEYS:
        for method, path, values in ways(kind, options):
            for name, client in people.items():
                answer = await call(client, method, path, **values)
                if answer.status_code != 403:
                    let_through.append((name, method, path, values, answer.text))
    assert let_through == []
    assert [await api.data("GET", path) for path in (f"{CT}/100/config", f"{VM}/200/config", CT, VM)] == before


async def test_the_administrators_are_no_strangers(api: Api) -> None:
    """What the test above sees refused is refused for its key: the same people may change other things."""
    for name, client in (await others(api)).items():
        for path in (f"{CT}/100/config", f"{VM}/200/config"):
            answer = await call(client, "PUT", path, description=name)
            assert answer.status_code == 200, (name, answer.text)


@pytest.mark.parametrize(("kind", "options"), KEYS, ids=str)
async def test_root_may(api: Api, kind: str, options: dict[str, str]) -> None:
    """ATTACKS 12: nobody forbids it to root; what is not there or not built is said to be that."""
    vmid = 100 if kind == CT else 200
    answer = await call(api.root, "PUT", f"{kind}/{vmid}/config", **options)
    assert answer.status_code != 403, answer.text
    if answer.status_code == 200:
        assert (await api.data("GET", f"{kind}/{vmid}/config")).keys() >= options.keys()


@pytest.mark.parametrize("options", BACKUPS, ids=str)
async def test_where_backups_are_put_and_what_runs_beside_them_is_roots(api: Api, options: dict[str, str]) -> None:
    """ATTACKS 12 and 13: a folder of the host's, a program on it; at once, in a job, and by a job's change.

    Without `backup_permissions.py` this fails.
    """
    job = {"id": "night", "schedule": "daily", "all": 1}
    await api.data("POST", "/cluster/backup", **job, storage="local")
    for name, client in (await others(api)).items():
        for method, path, values in (
            ("POST", "/nodes/pve/vzdump", {"vmid": 100, **options}),
            ("POST", "/cluster/backup", {**job, "id": "other", **options}),
            ("PUT", "/cluster/backup/night", options),
        ):
            answer = await call(client, method, path, **values)
            # Proxmox VE refuses these as parameters, not as rights.
            told = (answer.status_code, answer.json().get("errors"))
            assert told == (400, dict.fromkeys(options, "Only root may set this option.")), (name, method, path, told)
    assert [row["id"] for row in await api.data("GET", "/cluster/backup")] == ["night"]
    assert not options.keys() & (await api.data("GET", "/cluster/backup/night")).keys()


LATER: list[tuple[str, dict[str, str]]] = [
    (VM, {"args": "-S"}), (VM, {"hostpci0": "0000:00:02.0"}), (VM, {"serial0": "/dev/ttyS0"}),
    (VM, {"usb0": "host=1234:5678"}), (CT, {"dev0": "/dev/null"}), (CT, {"mp0": "/srv,mp=/mnt"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options"), LATER, ids=str)
async def test_no_further_way_leads_to_it(api: Api, kind: str, options: dict[str, str]) -> None:
    """ATTACKS 13: pending changes, snapshots, clones and templates bring nobody what root has never given this guest.

    Without the same checks in the methods of copies and snapshots this fails.
    """
    vmid = 100 if kind == CT else 200
    [(key, value)] = options.items()
    where = f"{kind}/{vmid}"
    assert await api.wait(await api.data("POST", f"{where}/snapshot", snapname="one")) == "OK"
    people = await others(api)
    tries: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", f"{where}/config", {"revert": key}),
        ("PUT", f"{where}/snapshot/one/config", options),
        ("POST", f"{where}/snapshot", {"snapname": "two", **options}),
        ("POST", f"{where}/clone", {"newid": 300, **options}),
        ("POST", f"{where}/template", options),
        ("POST", f"{where}/snapshot/one/rollback", options),
        ("POST", f"{where}/snapshot/one/rollback", {}),
        ("POST", f"{where}/status/start", options),
        ("PUT", f"{where}/config", {"description": f"x\n{key}: {value}\n[one]\n{key}: {value}"}),
    ]
    for client in people.values():
        for method, path, values in tries:
            answer = await call(client, method, path, **values)
            if answer.status_code == 200 and str(answer.json()["data"]).startswith("UPID"):
                await api.wait(answer.json()["data"])
            assert key not in await api.data("GET", f"{where}/config"), (method, path, values)
            guest = await api.services.rooms.guests.get(vmid)
            assert key not in str(guest.snapshots.keys())
            assert all(key not in snapshot.config for snapshot in guest.snapshots.values()), (method, path, values)
    assert 300 not in [row["vmid"] for row in await api.data("GET", kind)]
