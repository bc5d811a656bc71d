"""Changes of a running container."""

import contextlib
from pathlib import Path

from bastide.base.errors import HostFailure, WrongState
from bastide.guest.lxc import hook, limits
from bastide.guest.lxc.attach import Execution, finish
from bastide.guest.lxc.distro import setup
from bastide.guest.lxc.runtime import Runtime
from bastide.guest.protocol import Command, ContainerPlan, Mount
from bastide.host import netns
from bastide.host.rootdir import RootDir
from bastide.model.container import ContainerConfig

_CONFIGURE_DEADLINE = 30.0


class HotChange(Execution):
    """The `HotChange` part of the engine."""

    _runtime: Runtime

    async def set_limits(self, vmid: int, config: ContainerConfig) -> None:
        """Apply memory, swap, cores, cpulimit and cpuunits."""
        self._require(vmid)
        group = self._runtime.group(vmid)
        limits.apply_limits(self._runtime.groups, group, config)
        others = [self._runtime.group(other) for other in self._runtime.running() if other != vmid]
        online = limits.online_cpus()
        cpus = limits.choose_cpus(config.cores, online, limits.cpu_sets(self._runtime.groups, others))
        now = limits.parse_cpus(self._runtime.groups.read(group, "cpuset", "cpuset.cpus") or "")
        if len(now or online) != len(cpus or online):
            limits.apply_cpus(self._runtime.groups, group, cpus)

    async def add_mount(self, plan: ContainerPlan, mount: Mount) -> None:
        """Mount a further file system in the running guest."""
        await hook.attach(self._runtime.folder(plan.vmid), plan, [mount], self._require(plan.vmid))

    async def add_interface(self, plan: ContainerPlan, index: int) -> None:
        """Give the running guest a further interface and let its distribution configure it.

        Where the distribution has no tool for that, the addresses are set from outside.
        """
        nic, pid = plan.config.net[index], self._require(plan.vmid)
        await netns.add_veth(pid, plan.interfaces[index], nic.name, nic.hwaddr, nic.mtu)
        try:
            # On its storage: seen from here, the running guest's own mount has no owner that the host could write as.
            with RootDir(plan.rootfs) as root:
                setup.customize(root, plan)
                argv = setup.interface_up(root, plan.config.ostype, nic.name)
            if argv is not None:
                process = await self.execute(plan.vmid, Command(argv))
                with contextlib.suppress(TimeoutError):
                    await finish(process, _CONFIGURE_DEADLINE)
            await netns.ensure_addresses(pid, nic)
        except BaseException:
            with contextlib.suppress(HostFailure):
                await netns.remove_link(plan.interfaces[index])
            raise

    async def remove_interface(self, vmid: int, name: str, host_name: str) -> None:
        """Take an interface away: the host's end, and with it the guest's."""
        pid = self._require(vmid)
        with RootDir(Path(f"/proc/{pid}/root")) as root:
            argv = setup.interface_down(root, name)
        if argv is not None:
            # Its DHCP client ends; what it says of an interface that was never up does not matter.
            process = await self.execute(vmid, Command(argv))
            with contextlib.suppress(TimeoutError):
                await finish(process, _CONFIGURE_DEADLINE)
        await netns.remove_link(host_name)

    def _require(self, vmid: int) -> int:
        pid = self._runtime.init_pid(vmid)
        if pid is None:
            raise WrongState(f"CT {vmid} not running")
        return pid
