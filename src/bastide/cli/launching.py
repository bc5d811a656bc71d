"""What `launch` needs for either kind of guest: what was made so far, its network, its end."""

from dataclasses import dataclass
from typing import Any

from bastide.base.errors import NotFound
from bastide.cli import progress
from bastide.cli.session import GuestRef, Session


@dataclass(slots=True)
class Made:
    """What a launch has made so far, and the task that is at it."""

    vmid: int
    path: str
    name: str
    upid: str = ""


def destroy(session: Session, guest: GuestRef, *, force: bool, purge: bool = True) -> Any:
    """Begin to destroy a guest; the task. A running VM is stopped first with `force`, as its method cannot."""
    if guest.type == "lxc":
        return session.client().delete(guest.path, force=force, purge=purge)
    if force and guest.status == "running":
        stopped = session.client().post(f"{guest.path}/status/stop")
        progress.finish(session, stopped, f"stopping {guest.shown}")
    return session.client().delete(guest.path, purge=purge)


def set_cloud_texts(session: Session, made: Made, texts: dict[str, str]) -> None:
    """Let cloud-init in the guest read these texts at its next start."""
    if texts:
        session.client().put(f"/bastide/guests/{made.vmid}/cloudinit", texts)


def default_bridge(session: Session) -> str:
    """The bridge of the daemon's own."""
    return str(session.status().get("bridge") or "vmbr0")


def gateway_of(session: Session, ip: str, bridge: str | None, gateway: str | None) -> str | None:
    """The way out: the one asked for, or the NAT bridge's own address for a guest with a fixed one in its network."""
    if gateway is not None or bridge is not None or "/" not in ip:
        return gateway
    import ipaddress  # noqa: PLC0415 - imported by urllib already

    try:
        row = session.client().get(f"/nodes/{session.node()}/network/{default_bridge(session)}")
        own, guest = ipaddress.ip_interface(row["address"] + f"/{row['netmask']}"), ipaddress.ip_interface(ip)
    except (NotFound, KeyError, ValueError):
        return None
    return str(own.ip) if guest.network == own.network else None


def addresses_of(interfaces: list[dict[str, Any]]) -> list[str]:
    """Addresses that others can reach: no loopback, no link-local; IPv4 first."""
    found = []
    for row in interfaces:
        for entry in row.get("ip-addresses", []):
            text = str(entry.get("ip-address", ""))
            if row.get("name") != "lo" and not text.lower().startswith(("fe80:", "127.", "169.254.")) and text != "::1":
                found.append(text)
    return sorted(found, key=lambda text: ":" in text)
