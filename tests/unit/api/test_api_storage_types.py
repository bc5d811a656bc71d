"""`/storage` with the keys of every type, secrets, scans, and what is promised."""

from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import HostFailure
from bastide.host import network_mounts, scans, smb
from bastide.host.scans import Export
from bastide.host.smb import Share
from bastide.model.storage import TYPES
from bastide.storage.mounted import MountedStorage
from framework.api import Api, call

pytestmark = pytest.mark.anyio

NAS = {"storage": "nas", "type": "cifs", "server": "nas.test", "share": "media", "username": "ada"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A server whose mounts are noted and never made."""
    seen: dict[str, Any] = {"mounts": [], "fails": None}

    async def mount(argv: list[str]) -> None:
        seen["mounts"].append(argv)
        if seen["fails"]:
            raise HostFailure(seen["fails"])

    async def unmount(target: Path, *, away: bool = False) -> None:
        seen["mounts"].append(["umount", str(target)])

    monkeypatch.setattr(network_mounts, "mount", mount)
    monkeypatch.setattr(network_mounts, "unmount", unmount)
    monkeypatch.setattr(MountedStorage, "_is_mounted", lambda _self: bool(seen["mounts"]) and not seen["fails"])
    monkeypatch.setattr(MountedStorage, "_is_away", lambda _self: False)
    return seen


async def test_a_password_is_taken_and_never_shown(api: Api, server: dict[str, Any]) -> None:
    made = await api.data("POST", "/storage", **NAS, password="geheim,uid=0", content="iso,backup")
    assert made == {"storage": "nas", "type": "cifs"}
    (argv,) = server["mounts"]
    assert "geheim" not in " ".join(argv)
    layout = api.services.rooms.layout
    assert "geheim" in (layout.state / "secrets/storage/nas.password").read_text()
    shown = await api.data("GET", "/storage/nas")
    digest = shown.pop("digest")
    assert shown == {**NAS, "content": "backup,iso", "shared": 1, "path": str(layout.state / "mnt/nas")}
    for path in ("/storage", "/storage/nas", "/nodes/pve/storage", "/cluster/resources"):
        assert "geheim" not in (await api.root.get(path)).text
    await api.data("PUT", "/storage/nas", password="neu", digest=digest)
    await api.data("DELETE", "/storage/nas")
    assert server["mounts"][-1][0] == "umount"
    assert list((layout.state / "secrets/storage").iterdir()) == []
    texts = [path.read_bytes() for path in layout.logs.rglob("*") if path.is_file()]
    assert not any(b"geheim" in text for text in texts)


async def test_a_share_that_cannot_be_mounted_is_not_added(api: Api, server: dict[str, Any]) -> None:
    server["fails"] = "mount.cifs failed: Permission denied"
    answer = await call(api.root, "POST", "/storage", **NAS, password="geheim")
    assert answer.status_code >= 500
    assert "Permission denied" in answer.text
    assert "geheim" not in answer.text
    assert (await call(api.root, "GET", "/storage/nas")).status_code == 500
    assert list((api.services.rooms.layout.state / "secrets/storage").iterdir()) == []


SENT: list[dict[str, Any]] = [
    # Ansible's proxmox_storage: each list is a key that comes several times, and nothing tells who asks a share
    {"type": "nfs", "server": "192.0.2.1", "export": "/srv/media", "nodes": ["pve"], "content": ["iso", "images"]},
    {"type": "cifs", "server": "nas.test", "share": "media", "nodes": ["pve"], "content": ["iso", "images"]},
    # Terraform's bpg/proxmox: lists with commas, and what its resource has besides
    {
        "type": "nfs", "server": "192.0.2.1", "export": "/srv/media", "nodes": "pve", "content": "images,iso",
        "options": "vers=4.2", "preallocation": "off", "prune-backups": "keep-all=0,keep-last=3", "disable": 0,
        "snapshot-as-volume-chain": 0,
    },
    {
        "type": "cifs", "server": "nas.test", "share": "media", "nodes": "pve", "content": "images,iso",
        "username": "ada", "password": "geheim", "domain": "corp", "subdir": "/deep", "smbversion": "3.11",
    },
]  # fmt: skip


@pytest.mark.parametrize("values", SENT, ids=lambda values: values["type"])
async def test_shares_as_clients_add_them(api: Api, server: dict[str, Any], values: dict[str, Any]) -> None:
    assert await api.data("POST", "/storage", storage="far", **values) == {"storage": "far", "type": values["type"]}
    assert len(server["mounts"]) == 1
    shown = await api.data("GET", "/storage/far")
    assert (shown["content"], shown["nodes"], shown["server"]) == ("images,iso", "pve", values["server"])
    again = await call(api.root, "POST", "/storage", storage="far", **values)
    assert "already defined" in again.text, "which Ansible's module looks for"
    await api.data("PUT", "/storage/far", content="iso", nodes="pve", digest=shown["digest"], delete="options")
    await api.data("DELETE", "/storage/far")
    assert [row["storage"] for row in await api.data("GET", "/storage")] == ["local"]


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"type": "nfs", "server": "x"}, "export"),
        ({"type": "nfs", "server": "x", "export": "/x", "share": "y"}, "share"),
        ({"type": "dir", "path": "/srv/x", "password": "x"}, "password"),
        ({"type": "lvm", "vgname": "-x"}, "vgname"),
        ({"type": "dir", "path": "/srv/x", "prune-backups": "keep-all=1,keep-last=1"}, "prune-backups"),
        ({"type": "dir", "path": "/srv/x", "content-dirs": "iso=images/x"}, "content-dirs"),
        ({"type": "lvm", "vgname": "vg", "saferemove-stepsize": "3"}, "saferemove-stepsize"),
    ],
)
async def test_what_a_type_cannot_have_is_named(api: Api, values: dict[str, str], wrong: str) -> None:
    answer = await call(api.root, "POST", "/storage", storage="new", **values)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, [wrong])


@pytest.mark.parametrize("kind", ["esxi", "iscsidirect", "pbs", "zfs"])
async def test_types_that_are_not_built_say_so(api: Api, kind: str) -> None:
    answer = await call(api.root, "POST", "/storage", storage="new", type=kind, server="x", pool="x", portal="x")
    assert answer.status_code == 501


async def test_files_lie_where_content_dirs_says(api: Api, tmp_path: Path) -> None:
    values = {"storage": "dd", "type": "dir", "path": str(tmp_path / "dd"), "content": "iso,images,rootdir"}
    await api.data("POST", "/storage", **values, **{"content-dirs": "iso=my/isos,images=disks"})
    (tmp_path / "dd/my/isos/a.iso").write_bytes(b"x")
    (tmp_path / "dd/template/iso").mkdir(parents=True)
    (tmp_path / "dd/template/iso/b.iso").write_bytes(b"x")
    rows = await api.data("GET", "/nodes/pve/storage/dd/content")
    assert [row["volid"] for row in rows] == ["dd:iso/a.iso"]
    shown = await api.data("GET", "/nodes/pve/storage/dd/content/dd:iso/a.iso")
    assert shown["path"] == str(tmp_path / "dd/my/isos/a.iso")
    made = await api.data("POST", "/nodes/pve/storage/dd/content", vmid=100, filename="vm-100-disk-0.subvol", size="0")
    assert made == "dd:100/vm-100-disk-0.subvol"
    assert (tmp_path / "dd/disks/100/vm-100-disk-0.subvol").is_dir()
    assert not (tmp_path / "dd/images").exists()


async def test_what_is_promised_is_told_beside_what_is_used(api: Api, tmp_path: Path) -> None:
    await api.data("POST", "/storage", storage="dd", type="dir", path=str(tmp_path / "dd"), content="images")
    total = (await api.data("GET", "/nodes/pve/storage/dd/status"))["total"]
    size = total // 2 >> 20 << 10  # KiB
    for number in range(3):
        name = f"vm-100-disk-{number}.raw"
        answer = await call(
            api.root, "POST", "/nodes/pve/storage/dd/content", vmid=100, filename=name, size=str(size), format="raw"
        )
        assert answer.status_code == 200, answer.text
    for row in (
        await api.data("GET", "/nodes/pve/storage/dd/status"),
        next(row for row in await api.data("GET", "/nodes/pve/storage") if row["storage"] == "dd"),
    ):
        assert row["allocated"] == 3 * size * 1024
        assert row["promised"] == pytest.approx(3 * size * 1024 / total)
    values = {"vmid": 100, "filename": "vm-100-disk-9.raw", "size": str(total // 1024 + 1024), "format": "raw"}
    answer = await call(api.root, "POST", "/nodes/pve/storage/dd/content", **values)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["size"])


async def test_a_volume_is_copied(api: Api) -> None:
    source = "/nodes/pve/storage/local/content/vztmpl/debian-12-test_1_amd64.tar.gz"
    upid = await api.data("POST", source, target="vztmpl/other_1_amd64.tar.gz")
    assert upid.split(":")[5] == "imgcopy"
    assert await api.wait(upid) == "OK"
    rows = await api.data("GET", "/nodes/pve/storage/local/content", content="vztmpl")
    assert len(rows) == 2
    answer = await call(api.root, "POST", source, target="vztmpl/third_1_amd64.tar.gz", target_node="other")
    assert answer.status_code == 501
    ada = await api.token(grants={"/": "PVEAdmin"})
    assert (await call(ada, "POST", source, target="vztmpl/third_1_amd64.tar.gz")).status_code == 403


async def test_a_guests_protected_backups_are_limited(api: Api, tmp_path: Path) -> None:
    values = {"storage": "bk", "type": "dir", "path": str(tmp_path / "bk"), "content": "backup"}
    await api.data("POST", "/storage", **values, **{"max-protected-backups": 1})
    names = [f"vzdump-lxc-100-2026_01_0{day}-00_00_00.tar.zst" for day in (1, 2)]
    for name in names:
        (tmp_path / "bk/dump" / name).write_bytes(b"x")
    first, second = (f"/nodes/pve/storage/bk/content/backup/{name}" for name in names)
    await api.data("PUT", first, protected=1)
    await api.data("PUT", first, protected=1)
    answer = await call(api.root, "PUT", second, protected=1)
    assert "at most 1" in answer.text
    await api.data("PUT", "/storage/bk", **{"max-protected-backups": -1})
    await api.data("PUT", second, protected=1)


async def test_scans_ask_servers_and_tell_what_is_wrong(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def exports(server: str) -> list[Export]:
        if server != "nas":
            raise HostFailure("no such host")
        return [Export("/srv/media", "*")]

    async def shares(*who: str | None) -> list[Share]:
        assert who == ("nas", "ada", "geheim", None)
        return [Share("media", "Films")]

    monkeypatch.setattr(scans, "exports", exports)
    monkeypatch.setattr(smb, "shares", shares)
    assert {row["method"] for row in await api.data("GET", "/nodes/pve/scan")} >= {"nfs", "cifs", "iscsi", "lvm"}
    assert await api.data("GET", "/nodes/pve/scan/nfs", server="nas") == [{"path": "/srv/media", "options": "*"}]
    found = await api.data("GET", "/nodes/pve/scan/cifs", server="nas", username="ada", password="geheim")
    assert found == [{"share": "media", "description": "Films"}]
    assert "no such host" in (await call(api.root, "GET", "/nodes/pve/scan/nfs", server="other")).text
    for bad in ("-e", "a b", "a;b", "$(id)", "a/b"):
        answer = await call(api.root, "GET", "/nodes/pve/scan/nfs", server=bad)
        assert (answer.status_code, list(answer.json()["errors"])) == (400, ["server"])
    values = {"server": "x", "username": "u", "password": "p"}
    assert (await call(api.root, "GET", "/nodes/pve/scan/pbs", **values)).status_code == 501
    ada = await api.token(grants={"/": "PVEVMAdmin"})
    assert (await call(ada, "GET", "/nodes/pve/scan/nfs", server="nas")).status_code == 403


async def test_the_types_tell_what_they_need_and_hold(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program, **_: None if program in ("zfs", "mount.ceph") else program)
    types = {row["type"]: row for row in await api.data("GET", "/bastide/storage-types")}
    assert set(types) == set(TYPES)
    assert types["nfs"]["needed"] == ["export", "server"]
    assert "content" in types["nfs"]["optional"]
    assert types["cifs"]["secrets"] == ["password"]
    assert {name: row["lacks"] for name, row in types.items() if "lacks" in row} == {
        "cephfs": "mount.ceph", "zfspool": "zfs",
    }  # fmt: skip
    assert types["borg"]["content"] == types["borg"]["default"] == ["backup"]
