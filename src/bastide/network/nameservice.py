"""The managed bridge's name service: dnsmasq's files, its life, and who answers to which name."""

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path

from bastide.base.layout import Layout
from bastide.host import dnsmasq, resolved, sysctl
from bastide.network import names
from bastide.network.protocol import ManagedBridge, Port

_LOG_LIMIT = 4 * 1024 * 1024
_log = logging.getLogger(__name__)


class NameService:
    """DHCP and DNS for one bridge.

    What dnsmasq reads after it has dropped its privileges lies in `/run/<instance>-network`, world-readable, because
    the runtime folder is closed to everyone but root; it is made anew after a boot. Each guest has a file
    `<vmid>.<name>` there, so that a name's owner is known by looking at the folder.
    """

    def __init__(self, layout: Layout, bridge: ManagedBridge) -> None:
        self._bridge = bridge
        self._folder = Path("/run") / f"{layout.instance}-network"
        ipv6 = bridge.ipv6 if sysctl.exists("net/ipv6/conf/all/forwarding") else None
        self._service = names.Service(
            bridge=bridge.name,
            ipv4=bridge.ipv4,
            ipv6=ipv6,
            domain=bridge.domain,
            user="root",
            pid_file=self._folder / "dnsmasq.pid",
            hosts=self._folder / "hosts",
            dhcp_hosts=self._folder / "dhcp-hosts",
            leases=layout.state / "network" / "leases",
            log=layout.logs / "dnsmasq.log",
        )
        self._process = dnsmasq.Dnsmasq(self._folder / "dnsmasq.conf", self._service.pid_file)
        self._cached: tuple[tuple[int, int, int], dict[str, str]] | None = None
        self._lock = asyncio.Lock()

    async def ensure(self) -> None:
        """Write the configuration and see that dnsmasq runs with it. Raises RunError with its complaint."""
        changed = await asyncio.to_thread(self._write_config)
        running = self._process.pid() is not None
        if running and changed:
            await self._process.stop()
        if changed or not running:
            await self._process.start()
            await resolved.route_domain(self._bridge.name, self._bridge.ipv4.ip, self._service.domain)

    async def wait_ended(self) -> None:
        """Return when dnsmasq does not run."""
        await self._process.wait()

    async def purge(self) -> None:
        """End dnsmasq and remove every file, leases too."""
        await self._process.stop()
        for folder in (self._folder, self._service.leases.parent):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        self._service.log.unlink(missing_ok=True)

    async def register(self, vmid: int, name: str, nics: Mapping[int, Port]) -> None:
        """Write the guest's names and reservations; dnsmasq reads them again when they changed."""
        async with self._lock:
            taken = self._owners()
            label = names.label_of(name, [used for owner, used in taken if owner != vmid], vmid)
            if label != name.partition(".")[0].lower():
                _log.warning("guest %s answers to '%s': the name '%s' is another's", vmid, label or "no name", name)
            file = f"{vmid}.{label or ''}"
            given = self._choose(vmid, nics)
            texts = {
                self._service.hosts / file: names.render_hosts(label, nics, self._bridge.name),
                self._service.dhcp_hosts / file: names.render_dhcp_hosts(label, nics, self._bridge.name, given),
            }
            if self._replace(vmid, texts):
                # New files it sees by itself (inotify); what was there before it only drops when it reads all again.
                self._process.reload()

    async def forget(self, vmid: int) -> None:
        """Remove the guest's files and give its leases back; a guest that was never registered is fine."""
        async with self._lock:
            files = [path for folder in self._folders() for path in folder.glob(f"{vmid}.*")]
            hwaddrs = [
                line.partition(",")[0].upper()
                for path in files
                if path.parent == self._service.dhcp_hosts
                for line in path.read_text().splitlines()
            ]
            for path in files:
                path.unlink(missing_ok=True)
            if not files:
                return
            self._process.reload()
            leases = self.leases()
            for hwaddr in hwaddrs:
                if hwaddr in leases:
                    with contextlib.suppress(OSError):
                        dnsmasq.release(self._bridge.name, self._bridge.ipv4.ip, IPv4Address(leases[hwaddr]), hwaddr)

    def addresses(self, vmid: int) -> dict[str, IPv4Address]:
        """What a guest's hardware addresses (lower case) were given or have as static addresses."""
        found: dict[str, IPv4Address] = {}
        for file in self._service.dhcp_hosts.glob(f"{vmid}.*"):
            found |= names.parse_dhcp_hosts(file.read_text())
        return found

    def _choose(self, vmid: int, nics: Mapping[int, Port]) -> dict[str, IPv4Address]:
        """An address for each interface that has none: the one it had, and never what another has or still leases."""
        before = self.addresses(vmid)
        taken: set[IPv4Address] = set()
        for file in self._service.dhcp_hosts.glob("[0-9]*.*"):
            if not file.name.startswith(f"{vmid}."):
                taken.update(names.parse_dhcp_hosts(file.read_text()).values())
        own = {nic.hwaddr.lower() for nic in nics.values() if nic.hwaddr}
        for hwaddr, leased in self.leases().items():
            with contextlib.suppress(ValueError):
                if hwaddr.lower() in own:
                    before.setdefault(hwaddr.lower(), IPv4Address(leased))
                else:
                    taken.add(IPv4Address(leased))
        given = names.choose_addresses(nics, self._bridge, before, taken)
        if any(static is None and hwaddr not in given for hwaddr, static in names.clients(nics, self._bridge.name)):
            _log.warning("guest %s gets no IPv4 address: %s is full", vmid, self._bridge.ipv4.network)
        return given

    def leases(self) -> dict[str, str]:
        """IPv4 addresses by hardware address, read again when the file changed."""
        try:
            status = os.stat(self._service.leases)
        except OSError:
            return {}
        mark = (status.st_mtime_ns, status.st_size, status.st_ino)
        if self._cached is None or self._cached[0] != mark:
            self._cached = (mark, names.parse_leases(self._service.leases.read_text(errors="replace")))
        return self._cached[1]

    def _folders(self) -> tuple[Path, Path]:
        return self._service.hosts, self._service.dhcp_hosts

    def _owners(self) -> list[tuple[int, str]]:
        """Which guest has which name, from the names of the files."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for entry in os.listdir(self._service.dhcp_hosts):
                owner, _, label = entry.partition(".")
                if owner.isdigit() and label:
                    found.append((int(owner), label))
        return found

    def _replace(self, vmid: int, texts: Mapping[Path, str]) -> bool:
        """Write the files unless they are so already, drop the guest's others; whether an older one went."""
        self._make_folders()
        old = [path for folder in self._folders() for path in folder.glob(f"{vmid}.*") if path not in texts]
        for path in old:
            path.unlink()
        replaced = bool(old)
        for path, text in texts.items():
            existed = path.exists()
            replaced = (self._write(path, text) and existed) or replaced
        return replaced

    def _make_folders(self) -> None:
        for folder in (self._folder, *self._folders()):
            folder.mkdir(exist_ok=True, parents=True)
            folder.chmod(0o755)  # whatever the umask: dnsmasq reads them with its own account

    def _write_config(self) -> bool:
        self._make_folders()
        for path in (self._service.leases, self._service.log):
            path.parent.mkdir(exist_ok=True, parents=True)
        with contextlib.suppress(FileNotFoundError):
            if self._service.log.stat().st_size > _LOG_LIMIT:
                os.truncate(self._service.log, 0)  # dnsmasq appends
        service = names.with_user(self._service, dnsmasq.service_user())
        return self._write(self._process.config, names.render_config(service))

    def _write(self, path: Path, text: str) -> bool:
        """Replace a world-readable file at once, unless it holds the text already; whether it was written.

        The new file is made beside the folders that dnsmasq watches, and moved in whole.
        """
        with contextlib.suppress(FileNotFoundError):
            if path.read_text() == text:
                return False
        new = self._folder / f".{path.name}.new"
        new.write_text(text)
        new.chmod(0o644)
        new.rename(path)
        return True
