"""Who may set options of guests of either kind, and let them reach beyond the guest: bridges."""

from dataclasses import dataclass

from bastide.api.routing import Call
from bastide.base.errors import PermissionDenied
from bastide.model.container import NetworkInterface
from bastide.model.vm_devices import VmInterface


@dataclass(frozen=True, slots=True)
class Place:
    """A guest whose options a caller would set. `pool` is the pool that a new guest shall be in."""

    call: Call
    vmid: int
    pool: str | None = None

    async def require(self, *privileges: str, any_of: bool = False) -> None:
        """Raise PermissionDenied unless the caller has the privileges on the guest, or on the pool of a new one."""
        if self.pool is not None and await self.call.may(f"/pool/{self.pool}", *privileges, any_of=any_of):
            return
        await self.call.require(f"/vms/{self.vmid}", *privileges, any_of=any_of)


def root_only(what: str) -> PermissionDenied:
    """The refusal of what is root@pam's alone; a token is never root@pam."""
    return PermissionDenied(f"Permission check failed ({what})")


async def check_bridge(call: Call, nic: NetworkInterface | VmInterface) -> None:
    """Raise PermissionDenied unless the caller may use the interface's bridge, and there the VLANs.

    On the managed bridge it takes the bridge's administrator to let a guest send as anybody (`firewall=0`).
    """
    if nic.bridge is None:
        return
    base = f"/sdn/zones/localnetwork/{nic.bridge}"
    if nic.firewall is False and call.rooms.network.gateway(nic.bridge) is not None:
        await call.require(base, "SDN.Allocate")
    vlans = [str(nic.tag)] if nic.tag is not None else []
    vlans += nic.trunks.split(";") if nic.trunks else []
    if vlans:
        for vlan in vlans:
            await call.require(f"{base}/{vlan}", "SDN.Use")
    else:
        await call.require(base, "SDN.Use")
