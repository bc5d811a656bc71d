"""Command lines that mount what lies on other machines, against the golden file; mounts that hang or are in use."""

from pathlib import Path

import pytest

from bastide.base.errors import DeadlineExceeded, NotSupported, RunError, WrongState
from bastide.host import network_mounts as mounts
from bastide.host.network_mounts import CephPlace
from bastide.host.run import Completed

GOLDEN = Path(__file__).resolve().parents[2] / "golden/storage/mounts.txt"
TARGET = Path("/var/lib/bastide/mnt/s1")
SECRETS = Path("/var/lib/bastide/secrets/storage")

CASES = {
    "nfs": mounts.nfs(mounts.nfs_source("nas", "/srv/media"), TARGET),
    "nfs, soft, over IPv6": mounts.nfs(mounts.nfs_source("2001:db8::1", "/srv/my data"), TARGET, "soft,vers=4.2"),
    "cifs, as guest": mounts.cifs(mounts.cifs_source("nas", "media"), TARGET, None),
    "cifs, as a user": mounts.cifs(
        mounts.cifs_source("nas", "My Share", "/vm/disks/"), TARGET, SECRETS / "s1.password", username="ada",
        domain="TEST", version="3.11", options="soft",
    ),
    "cifs, any version": mounts.cifs(
        mounts.cifs_source("2001:db8::1", "media"), TARGET, None, username="ada", version="default"
    ),
    "ceph, of this cluster": mounts.ceph(CephPlace(), TARGET),
    "ceph, of another": mounts.ceph(
        CephPlace(("192.0.2.1", "[2001:db8::1]:6789"), "/vm", "bastide", "media", SECRETS / "s1.secret"), TARGET,
        "noatime",
    ),
    "ceph-fuse": mounts.ceph_fuse(
        CephPlace(("192.0.2.1", "192.0.2.2"), "vm", "bastide", "media", SECRETS / "s1.secret"), TARGET
    ),
}  # fmt: skip


def test_the_command_lines_are_the_golden_ones() -> None:
    text = "".join(f"# {name}\n" + "".join(f"{word}\n" for word in argv) + "\n" for name, argv in CASES.items())
    assert text == GOLDEN.read_text()


@pytest.mark.parametrize("name", sorted(CASES))
def test_ours_come_last_and_no_secret_is_among_them(name: str) -> None:
    assert CASES[name][-1].endswith("nosuid,nodev")
    assert "password=" not in CASES[name][-1].replace("password=,", "")


def _answers(monkeypatch: pytest.MonkeyPatch, *answers: Exception | None) -> list[list[str]]:
    seen: list[list[str]] = []
    left = list(answers)

    async def run(argv: list[str], **_options: object) -> Completed:
        seen.append(list(argv))
        answer = left.pop(0)
        if answer is not None:
            raise answer
        return Completed(0, b"", "")

    monkeypatch.setattr(mounts, "run", run)
    return seen


@pytest.mark.anyio
async def test_a_server_that_is_away_does_not_keep_its_mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = _answers(monkeypatch, DeadlineExceeded("umount did not end"), None)
    await mounts.unmount(tmp_path)
    assert "--lazy" not in seen[0]
    assert "--lazy" in seen[1]
    # Our own look that hangs in it makes it busy.
    busy = RunError(["umount"], 32, "umount.nfs4: /x: device is busy")
    seen = _answers(monkeypatch, busy, None)
    await mounts.unmount(tmp_path, away=True)
    assert {"--lazy", "--internal-only"} <= set(seen[1])


@pytest.mark.anyio
async def test_what_is_in_use_stays_and_what_is_gone_is_fine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    busy = RunError(["umount"], 32, "umount: /x: target is busy.")
    _answers(monkeypatch, busy)
    await mounts.unmount(tmp_path)
    monkeypatch.setattr(mounts, "mounted", lambda _target: object())
    _answers(monkeypatch, busy)
    with pytest.raises(WrongState, match="in use"):
        await mounts.unmount(tmp_path)


@pytest.mark.anyio
async def test_a_kernel_without_the_file_system_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    _answers(monkeypatch, RunError(["mount.nfs"], 32, "mount.nfs: unknown filesystem type 'nfs'"))
    with pytest.raises(NotSupported, match="kernel"):
        await mounts.mount(CASES["nfs"])
    _answers(monkeypatch, RunError(["mount.nfs"], 32, "mount.nfs: Connection refused"))
    with pytest.raises(RunError, match="refused"):
        await mounts.mount(CASES["nfs"])
