"""Who may set options of guests of either kind, and let them reach beyond the guest: bridges."""

from dataclasses import dataclass

from bastide.api.routing import Call
from bastide.base.errors import PermissionDenied


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


async def check_bridge(call: Call, bridge: str | None, tag: int | None = None, trunks: str | None = None) -> None:
    """Raise PermissionDenied unless the caller may use the bridge, and there the VLANs."""
    if bridge is None:
        return
    base = f"/sdn/zones/localnetwork/{bridge}"
    vlans = [str(tag)] if tag is not None else []
    vlans += (trunks or "").split(";") if trunks else []
    if vlans:
        for vlan in vlans:
            await call.require(f"{base}/{vlan}", "SDN.Use")
    else:
        await call.require(base, "SDN.Use")
