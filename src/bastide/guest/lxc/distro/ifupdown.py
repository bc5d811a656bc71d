"""ifupdown's /etc/network/interfaces (interfaces(5)): Debian, Devuan, Alpine, older Ubuntu."""

import re
from collections.abc import Iterable, Sequence

from bastide.guest.lxc.distro import files
from bastide.guest.lxc.distro.nics import Nic
from bastide.host.rootdir import RootDir

FILE = "etc/network/interfaces"
_STANZA = re.compile(r"^\s*(auto|allow-\S+|iface|mapping|source|source-directory|no-auto-down|rename)\b\s*(.*)$")
_DISABLED = "#bastide# "


def write(root: RootDir, nics: Sequence[Nic]) -> None:
    """Bring the file up to date: our section holds our interfaces; stanzas of the same names elsewhere are disabled."""
    managed = [nic for nic in nics if nic.managed]
    before = root.read_text(FILE) or ""
    text = disable_others(files.section(before, ""), [nic.name for nic in managed])
    if not re.search(r"^\s*iface\s+lo\b", text, re.MULTILINE) and not re.search(r"^\s*source", text, re.MULTILINE):
        text = f"auto lo\niface lo inet loopback\n\n{text}"
    after = files.section(text, "\n".join(line for nic in managed for line in stanza(nic)))
    if after != before:
        root.mkdir("etc/network")
        root.update(FILE, after)


def disable_others(text: str, names: Iterable[str]) -> str:
    """Comment out the stanzas of those interfaces, and bring back those of interfaces that are not ours any more."""
    ours, result, skipping = set(names), [], False
    for raw in text.splitlines():
        line = raw.removeprefix(_DISABLED)
        match = _STANZA.match(line)
        if match:
            words = match[2].split()
            if match[1] in ("auto", "no-auto-down") or match[1].startswith("allow-"):
                rest = [word for word in words if word not in ours]
                skipping = False
                if words and not rest:
                    result.append(_DISABLED + line)
                    continue
                # A list that also names others keeps them; a line that we disabled as a whole comes back so.
                result.append(line if len(rest) == len(words) else f"{match[1]} {' '.join(rest)}")
                continue
            skipping = match[1] == "iface" and bool(words) and words[0] in ours
        result.append(_DISABLED + line if skipping and line.strip() else line)
    return "\n".join([*result, ""]) if result else ""


def stanza(nic: Nic) -> list[str]:
    """The lines of one interface."""
    lines = [f"auto {nic.name}"]
    if nic.address4 is not None:
        lines += [f"iface {nic.name} inet static", f"\taddress {nic.address4}"]
        if nic.gateway4 is not None and nic.onlink4:
            lines += [
                f"\tup ip route add {nic.gateway4} dev {nic.name}",
                f"\tup ip route add default via {nic.gateway4} dev {nic.name}",
                f"\tdown ip route del default via {nic.gateway4} dev {nic.name}",
            ]
        elif nic.gateway4 is not None:
            lines.append(f"\tgateway {nic.gateway4}")
    else:
        lines.append(f"iface {nic.name} inet {'dhcp' if nic.method4 == 'dhcp' else 'manual'}")
    if nic.address6 is not None:
        lines += [f"iface {nic.name} inet6 static", f"\taddress {nic.address6}"]
        if nic.gateway6 is not None and nic.onlink6:
            lines += [
                f"\tup ip -6 route add {nic.gateway6} dev {nic.name}",
                f"\tup ip -6 route add default via {nic.gateway6} dev {nic.name}",
            ]
        elif nic.gateway6 is not None:
            lines.append(f"\tgateway {nic.gateway6}")
    elif nic.method6 in ("auto", "dhcp"):
        lines.append(f"iface {nic.name} inet6 {nic.method6}")
    lines.append("")
    return lines
