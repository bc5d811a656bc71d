"""What every command works with: which Bastide is meant, how to print, and the place above that starts a daemon."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bastide.base.errors import InvalidParameter, NotFound
from bastide.base.layout import Layout
from bastide.client import connect
from bastide.client.transport import Transport

if TYPE_CHECKING:
    from bastide.cli.hosting import Host
    from bastide.client.http import Client


@dataclass(frozen=True, slots=True)
class GuestRef:
    """A guest by its id, as the daemon found it from the name or the id that a user gave."""

    vmid: int
    node: str
    type: str
    name: str
    status: str

    @property
    def path(self) -> str:
        """Its branch of the API."""
        return f"/nodes/{self.node}/{self.type}/{self.vmid}"

    @property
    def shown(self) -> str:
        """What to call it."""
        return f"{self.name} ({self.vmid})" if self.name else str(self.vmid)


@dataclass(slots=True)
class Session:
    """One run of the command line. `root` and `json` are set by the options that all commands share."""

    host: "Host | None" = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    root: str | None = None
    json: bool = False
    _client: "Client | None" = None
    _status: dict[str, Any] | None = None

    @property
    def layout(self) -> Layout:
        """The folders of the Bastide that is meant."""
        text = self.root or self.environ.get("BASTIDE_ROOT")
        if not text:
            return Layout()
        path = Path(text).expanduser()
        if any(not char.isprintable() for char in text):
            raise InvalidParameter({"root": "a folder's name with control characters cannot be used"})
        return Layout(Path(os.path.abspath(path)))

    @property
    def root_option(self) -> str:
        """` --root DIR` as the user gave it, to repeat in advice; empty without."""
        return f" --root {self.root}" if self.root else ""

    @property
    def remote(self) -> bool:
        """Whether another machine is meant. `--root` always means this one."""
        return not self.root and connect.is_remote(self.environ)

    def transport(self) -> Transport:
        """The way to the daemon."""
        return connect.transport(self.layout, {} if self.root else self.environ)

    def client(self) -> "Client":
        """The client of this run, made at its first use."""
        if self._client is None:
            from bastide.client.http import Client  # noqa: PLC0415 - 20 ms that `exec` does not pay

            self._client = Client(self.transport())
        return self._client

    def status(self) -> dict[str, Any]:
        """What the daemon says of itself, asked once."""
        if self._status is None:
            answer: dict[str, Any] = self.client().get("/bastide/status")
            self._status = answer
        return self._status

    def node(self) -> str:
        """The name of the node that answers."""
        return str(self.status()["node"])

    def guest(self, name: str) -> GuestRef:
        """The guest of a name or an id. Raises NotFound."""
        from bastide.client.http import segment  # noqa: PLC0415 - as above

        if not name or "/" in name:
            raise NotFound(f"guest '{name}' does not exist")
        found: dict[str, Any] = self.client().get(f"/bastide/guests/{segment(name)}")
        kind = "qemu" if found["type"] in ("qemu", "vm") else "lxc"
        return GuestRef(int(found["vmid"]), found["node"], kind, found.get("name") or "", found.get("status") or "")

    def close(self) -> None:
        """Close the client's connection."""
        if self._client is not None:
            self._client.close()

    @property
    def interactive(self) -> bool:
        """Whether a person can be asked."""
        return sys.stdin.isatty() and sys.stderr.isatty()
