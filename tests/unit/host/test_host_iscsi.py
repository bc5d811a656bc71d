"""iSCSI: what the tool says, hostile and plain, and the kernel's tree of a target's disks."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import InvalidParameter, NotFound, NotSupported, RunError, WrongState
from bastide.base.layout import Layout
from bastide.host import iscsi
from bastide.host.iscsi import Lun, Target
from bastide.host.run import Completed
from bastide.model.storage import StorageConfig
from bastide.storage.iscsi import IscsiStorage

IQN = "iqn.2003-01.org.example:disk"
DISCOVERED = f"192.0.2.1:3260,1 {IQN}\n[2001:db8::1]:3260,2 {IQN}\n192.0.2.1:3260,-1 eui.02004567a425678d\n"
SESSIONS = f"tcp: [1] 192.0.2.1:3260,1 {IQN} (non-flash)\niser: [12] [2001:db8::1]:3260,2 eui.1\n"


def test_what_it_says_is_read() -> None:
    assert iscsi.parse_targets(DISCOVERED) == [
        Target("192.0.2.1:3260", IQN),
        Target("[2001:db8::1]:3260", IQN),
        Target("192.0.2.1:3260", "eui.02004567a425678d"),
    ]
    assert iscsi.parse_sessions(SESSIONS) == {
        1: Target("192.0.2.1:3260", IQN), 12: Target("[2001:db8::1]:3260", "eui.1"),
    }  # fmt: skip


@given(st.text())
def test_anything_it_says_is_read_or_left_out(text: str) -> None:
    for target in iscsi.parse_targets(text):
        assert target.target
        assert " " not in target.target
    assert all(number >= 0 for number in iscsi.parse_sessions(text))


TARGETS = st.builds(
    Target,
    st.from_regex(r"[a-z0-9.]{1,20}:[0-9]{1,5}", fullmatch=True),
    st.from_regex(r"iqn\.[a-z0-9.:-]{1,40}", fullmatch=True),
)


@given(st.lists(TARGETS, max_size=8))
def test_what_is_written_is_what_is_read(targets: list[Target]) -> None:
    text = "".join(f"{target.portal},{number} {target.target}\n" for number, target in enumerate(targets))
    assert iscsi.parse_targets(text) == targets
    text = "".join(f"tcp: [{number}] {t.portal},1 {t.target} (non-flash)\n" for number, t in enumerate(targets))
    assert iscsi.parse_sessions(text) == dict(enumerate(targets))


def test_portals_have_brackets_where_they_need_them() -> None:
    assert iscsi.discovery("2001:db8::1")[-1] == "[2001:db8::1]"
    assert iscsi.discovery("[2001:db8::1]:3260")[-1] == "[2001:db8::1]:3260"
    assert iscsi.login("nas", IQN)[-2:] == ["nas", "--login"]


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, Path]:
    """A host with two disks of the target, an enclosure beside them, and one of another target."""
    by_id = tmp_path / "by-id"
    by_id.mkdir()
    for session, target, address, block, kind in (
        (1, IQN, "2:0:0:1", "sdb", "0"), (1, IQN, "2:0:0:2", "sdc", "0"), (1, IQN, "2:0:0:3", "sdd", "13"),
        (2, "iqn.other", "3:0:0:1", "sde", "0"),
    ):  # fmt: skip
        folder = tmp_path / f"sys/class/iscsi_session/session{session}"
        device = folder / f"device/target{address.rpartition(':')[0]}/{address}"
        (device / "block" / block).mkdir(parents=True)
        (folder / "targetname").write_text(f"{target}\n")
        (folder / "state").write_text("LOGGED_IN\n" if target == IQN else "FAILED\n")
        (device / "type").write_text(f"{kind}\n")
        (device / "block" / block / "size").write_text("2048\n")
        (by_id / f"scsi-3600{block}").symlink_to(f"../../{block}")
        (by_id / f"wwn-0x600{block}").symlink_to(f"../../{block}")
        (by_id / f"scsi-3600{block}-part1").symlink_to(f"../../{block}1")
    (by_id / "scsi-3600sdc").unlink()
    return tmp_path / "sys", by_id


def test_the_disks_of_a_target_are_found_by_lasting_names(tree: tuple[Path, Path]) -> None:
    sysfs, by_id = tree
    assert list(iscsi.luns(IQN, sysfs, by_id)) == [
        Lun("0.0.1.scsi-3600sdb", by_id / "scsi-3600sdb", 1 << 20),
        Lun("0.0.2.wwn-0x600sdc", by_id / "wwn-0x600sdc", 1 << 20),
    ]
    assert iscsi.luns("iqn.nowhere", sysfs, by_id) == []


def test_a_target_answers_while_a_session_with_it_is_up(tree: tuple[Path, Path]) -> None:
    sysfs, _ = tree
    assert iscsi.answers(IQN, sysfs)
    assert not iscsi.answers("iqn.other", sysfs)
    assert not iscsi.answers("iqn.nowhere", sysfs)
    (sysfs / "class/iscsi_session/session1/state").write_text("FREE\n")
    assert not iscsi.answers(IQN, sysfs)


@pytest.fixture
def storage(tree: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> IscsiStorage:
    found = iscsi.luns(IQN, *tree)
    monkeypatch.setattr(iscsi, "luns", lambda _target: found)
    return IscsiStorage(
        StorageConfig.parse({"storage": "san", "type": "iscsi", "portal": "192.0.2.1", "target": IQN}), Layout(tmp_path)
    )


@pytest.mark.anyio
async def test_its_disks_are_used_as_they_are(storage: IscsiStorage, tree: tuple[Path, Path]) -> None:
    name = "0.0.1.scsi-3600sdb"
    (first, _) = await storage.list()
    assert (first.volid, first.content, first.format, first.size, first.vmid) == (
        f"san:{name}", "images", "raw", 1 << 20, None,
    )  # fmt: skip
    assert await storage.list("iso") == []
    assert await storage.list(vmid=100) == []
    image = await storage.disk_image(name)
    assert (image.path, image.format, image.device) == (tree[1] / "scsi-3600sdb", "raw", True)
    await storage.resize_disk(name, 1 << 20)
    for call in (
        storage.delete(name), storage.resize_disk(name, 2 << 20), storage.allocate_disk("vm-100-disk-0", 1 << 20),
        storage.write_file("vm-100-cloudinit", b"x"),
    ):  # fmt: skip
        with pytest.raises(NotSupported, match="iSCSI target"):
            await call
    with pytest.raises(NotFound):
        await storage.info("0.0.9.scsi-3600sdb")
    for bad in ("0.0.1.../../etc/passwd", "0.0.1.a/b", "sdb", "../sdb"):
        with pytest.raises(InvalidParameter):
            await storage.disk_path(bad)


@pytest.mark.anyio
async def test_it_logs_in_once_and_out_when_nobody_uses_it(
    storage: IscsiStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    here = False
    up = True

    async def run(argv: list[str], **_options: object) -> Completed:
        nonlocal here
        seen.append(argv[-1])
        if argv[-1] == "session":
            return Completed(0, SESSIONS.encode(), "") if here else Completed(21, b"", "iscsiadm: No active sessions.")
        if argv[-1] == "--login":
            here = True
        if argv[-1] == "--logout":
            raise RunError(argv, 9 if here else 21, "iscsiadm: in use")
        return Completed(0, DISCOVERED.encode(), "")

    monkeypatch.setattr(iscsi, "run", run)
    monkeypatch.setattr(iscsi, "answers", lambda target: up and target == IQN)
    await storage.detach()
    usage = await storage.usage()
    assert usage.active
    up = False
    assert not (await storage.usage()).active
    assert seen[:5] == ["--logout", "session", "session", "192.0.2.1", "--login"]
    await storage.prepare()
    assert seen[6:] == ["session", "--rescan"]
    with pytest.raises(WrongState, match="log out"):
        await storage.detach()
