"""The VM engine: one confined QEMU process a VM, which outlives the daemon, and QMP for everything after the start."""

import contextlib
import shutil
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from bastide.base.errors import BastideError, HostFailure, NotSupported
from bastide.base.layout import Layout
from bastide.guest.qemu import choosing, usb
from bastide.guest.qemu.blockjobs import Mirrors
from bastide.guest.qemu.console import Console
from bastide.guest.qemu.events import Events
from bastide.guest.qemu.fleecing import Fleecing
from bastide.guest.qemu.inspection import Inspection
from bastide.guest.qemu.runtime import Runtime
from bastide.host import abilities, qemu_facts, users
from bastide.host.qemu_facts import HostFacts
from bastide.model.vm import VmConfig


class QemuEngine(Mirrors, Fleecing, Inspection, Console):
    """`guest/vm_protocol.VmEngine` for QEMU. Its parts share one `Runtime`."""

    def __init__(self, layout: Layout) -> None:
        """Find the VMs that run already."""
        super().__init__(Runtime(layout))
        self._events = Events(self._runtime)
        self._facts: HostFacts | None = None
        self._unknown: BastideError = NotSupported("this host's QEMU was not asked yet what it can do")

    async def prepare(self) -> None:
        """Follow the VMs that run, and end what a start that was cut short has left; at every start of the daemon."""
        for vmid in self._runtime.known() - self._runtime.running():
            self._runtime.groups.kill(self._runtime.group(vmid))
        usb.take_back_stale()
        self._runtime.watch_all()
        try:
            await self._host()
        except (NotSupported, HostFailure) as error:
            self._unknown = error  # a host without QEMU runs containers all the same

    async def close(self) -> None:
        """Let go of the VMs, which go on."""
        await super().close()
        await self._runtime.close()

    async def purge(self) -> None:
        """Undo `prepare` when no VM runs: for `down --purge`."""
        for vmid in self._runtime.known() - self._runtime.running():
            await self.cleanup(vmid)
        self._runtime.groups.remove(self._runtime.layout.instance)
        shutil.rmtree(self._runtime.log(0).parent, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._runtime.folder(0).parent.rmdir()

    async def _host(self) -> HostFacts:
        self._facts = await qemu_facts.host_facts()
        return self._facts

    def _known_host(self) -> HostFacts:
        if self._facts is None:
            raise self._unknown
        return self._facts

    @property
    def accelerator(self) -> tuple[Literal["kvm", "tcg"], str | None]:
        """How guests run on this host, and why not by KVM."""
        refusal = abilities.kvm_refusal()
        return ("kvm", None) if refusal is None else ("tcg", refusal)

    def choose_uid(self, vmid: int, taken: Collection[int]) -> int:
        """A user id for a new VM's processes, apart from everyone else's on this machine."""
        return users.choose(vmid, taken)

    def pin_machine(self, config: VmConfig) -> str:
        """The versioned machine type that the options mean on this host."""
        return choosing.pin_machine(config, self._known_host())

    def check(self, config: VmConfig) -> None:
        """Raise InvalidParameter, naming each option that this host's QEMU cannot fulfil."""
        choosing.check(config, self._known_host())

    def efi_variables(self, config: VmConfig) -> Path:
        """The template of the EFI variables that `efidisk0` asks for."""
        return choosing.efi_variables(config, self._known_host())

    def on_event(self, listener: Callable[[int, str, Mapping[str, Any]], Awaitable[None]]) -> None:
        """Tell the listener of QEMU's events, and `GONE` when it ended."""
        self._runtime.listeners.append(listener)
