"""Restores of backups that attack a host, and a look at what they leave."""

from typing import Any

import httpx

from framework.evil import volumes
from framework.host import ApiFailure, Host, TaskFailed


class Target:
    """A host, and what it has of guests before an attack."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.number = 0
        self.before = self.look()
        assert host.process is not None
        self.pid = host.process.pid

    def look(self) -> tuple[set[str], list[int]]:
        """The volumes and the vmids that there are."""
        rows = self.host.get("/cluster/resources", type="vm")
        return volumes(self.host), sorted(row["vmid"] for row in rows)

    def put(self, data: bytes, kind: str = "lxc", extension: str = ".tar") -> str:
        """Put it among the backups; returns its volume id."""
        self.number += 1
        minute, second = divmod(self.number, 60)
        folder = self.host.root / "state/storage/dump"
        folder.mkdir(exist_ok=True)
        name = f"vzdump-{kind}-105-2026_11_23-01_{minute:02}_{second:02}{extension}"
        (folder / name).write_bytes(data)
        return f"local:backup/{name}"

    def restore(self, volid: str, client: httpx.Client | None = None, **options: Any) -> tuple[int | None, str]:
        """Restore a backup: the vmid and the task's log, or None and what was wrong."""
        vmid = options.pop("vmid", None) or self.host.new_vmid()
        vm = "-qemu-" in volid
        values = {
            "vmid": vmid,
            **({"archive": volid, "storage": "local"} if vm else {"ostemplate": volid, "restore": 1}),
            **options,
        }
        try:
            answer = (client or self.host.http).post(f"/nodes/{self.host.node}/{'qemu' if vm else 'lxc'}", data=values)
            if answer.status_code != 200:
                raise ApiFailure(answer)
            return vmid, self.host.wait(answer.json()["data"])
        except (ApiFailure, TaskFailed) as error:
            return None, str(error)

    def remove(self, vmid: int, kind: str = "lxc") -> None:
        """Remove what came of a restore."""
        self.host.wait(self.host.delete(f"/nodes/{self.host.node}/{kind}/{vmid}"))

    def check(self) -> None:
        """Nothing is left, and nobody died."""
        assert self.look() == self.before
        assert self.host.process is not None
        assert (self.host.process.poll(), self.host.process.pid) == (None, self.pid)
        assert self.host.get("/version")
        for file in (self.host.root / "state/storage/dump").glob("vzdump-*-105-*"):
            file.unlink()
