"""Forwarding between the managed bridge and the host's other interfaces, with the least change that works.

IPv4 forwards what comes in on an interface whose own `forwarding` is on, so the bridge and the interfaces that bring
the guests' answers need it, and not the whole host. IPv6 does the same with `force_forwarding` (Linux 6.17); before
that only the host-wide switch counts, which is turned so that every interface stays what it was, a host that listens
to router advertisements or a router (Documentation/networking/ip-sysctl.rst).

What was changed is written down once a machine, because several instances may need the same switch: the last one to
leave sets the earlier value back. An instance is known by its bridge; one whose bridge is gone holds nothing.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bastide.host import links, sysctl

ALL4 = "net/ipv4/conf/all/forwarding"
ALL6 = "net/ipv6/conf/all/forwarding"
_CONF6 = Path("/proc/sys/net/ipv6/conf")
Claims = dict[str, dict[str, Any]]


def _record() -> Path:
    # Settings below net/ belong to a network namespace, and so does the record of them.
    return Path(f"/run/bastide-forwarding-{os.stat('/proc/self/ns/net').st_ino}.json")


@contextlib.contextmanager
def _claims() -> Iterator[Claims]:
    """The record of changed settings, locked; written back, or removed when it is empty."""
    while True:
        path = _record()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not path.exists() or os.fstat(file.fileno()).st_ino != path.stat().st_ino:
                continue  # removed by the one who had the lock before
            text = file.read()
            claims: Claims = json.loads(text) if text else {}
            try:
                yield claims
            finally:
                if claims:
                    file.seek(0)
                    file.truncate()
                    file.write(json.dumps(claims))
                    file.flush()
                else:
                    path.unlink()
            return


def ensure(bridge: str, outer4: set[str], outer6: set[str]) -> tuple[list[str], list[str]]:
    """Turn forwarding on for the bridge and for the interfaces that its guests' packets leave and return by.

    Returns the interfaces whose forwarding is on only because a bridge of ours needs it, for IPv4 and for IPv6:
    they are to be guarded. A host that forwards already is left alone and gives none. Raises HostFailure.
    """
    sysctl.write(f"net/ipv4/conf/{bridge}/forwarding", "1")
    sysctl.try_write(f"net/ipv6/conf/{bridge}/forwarding", "1")
    with _claims() as claims:
        _prune(claims, set())
        for name in sorted(outer4):
            _claim(claims, bridge, f"net/ipv4/conf/{name}/forwarding")
        guarded4 = [] if sysctl.read(ALL4) == "1" else [name for name in outer4 if _held(claims, "ipv4", name)]
        if not sysctl.exists(ALL6):
            return sorted(guarded4), []
        return sorted(guarded4), _ensure6(claims, bridge, outer6)


def _ensure6(claims: Claims, bridge: str, outer6: set[str]) -> list[str]:
    if ALL6 not in claims and sysctl.read(ALL6) == "1":
        return []
    if sysctl.try_write(f"net/ipv6/conf/{bridge}/force_forwarding", "1"):
        for name in sorted(outer6):
            _claim(claims, bridge, f"net/ipv6/conf/{name}/force_forwarding")
        return sorted(name for name in outer6 if f"net/ipv6/conf/{name}/force_forwarding" in claims)
    if sysctl.read(ALL6) != "1":
        _switch_all6("1", keep={bridge})
        claims.setdefault(ALL6, {"earlier": "0", "holders": []})
    if bridge not in claims[ALL6]["holders"]:
        claims[ALL6]["holders"].append(bridge)
    return sorted(outer6)


def _held(claims: Claims, family: str, name: str) -> bool:
    return f"net/{family}/conf/{name}/forwarding" in claims


def _claim(claims: Claims, bridge: str, key: str) -> None:
    earlier = sysctl.read(key)
    if earlier is None or (earlier == "1" and key not in claims):
        return
    entry = claims.setdefault(key, {"earlier": earlier, "holders": []})
    if bridge not in entry["holders"]:
        entry["holders"].append(bridge)
    if earlier != "1":
        sysctl.write(key, "1")


def give_back(bridge: str) -> None:
    """Set back what no other bridge of ours needs."""
    if _record().exists():
        with _claims() as claims:
            _prune(claims, {bridge})


def _prune(claims: Claims, leaving: set[str]) -> None:
    """Set back what is held by nobody but those who leave and bridges that are gone."""
    for key, entry in list(claims.items()):
        entry["holders"] = [name for name in entry["holders"] if name not in leaving and links.exists(name)]
        if entry["holders"]:
            continue
        del claims[key]
        if key == ALL6:
            _switch_all6(entry["earlier"], keep=set())
        elif not (key.startswith("net/ipv4/") and sysctl.read(ALL4) == "1") and sysctl.exists(key):
            # With the host-wide switch on, someone else has come to need forwarding meanwhile.
            sysctl.write(key, entry["earlier"])


def _switch_all6(value: str, keep: set[str]) -> None:
    """Turn IPv6 forwarding of the whole host, and leave every interface but those in `keep` as it was.

    The host-wide switch sets each interface's own and forgets the default routes that router advertisements brought,
    except where `accept_ra` is 2: hence 2 meanwhile, and the old values afterwards.
    """
    names = sorted(path.name for path in _CONF6.iterdir() if path.name != "all" and path.name not in keep)
    before = {name: sysctl.read(f"net/ipv6/conf/{name}/forwarding") for name in names}
    listening = [name for name in names if sysctl.read(f"net/ipv6/conf/{name}/accept_ra") == "1"]
    for name in listening:
        sysctl.try_write(f"net/ipv6/conf/{name}/accept_ra", "2")
    sysctl.write(ALL6, value)
    for name, earlier in before.items():
        if earlier is not None:
            sysctl.try_write(f"net/ipv6/conf/{name}/forwarding", earlier)
    for name in listening:
        sysctl.try_write(f"net/ipv6/conf/{name}/accept_ra", "1")
