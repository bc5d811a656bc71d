"""How each distribution is set up, on small trees that look like it."""

import contextlib
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import BastideError
from bastide.guest.lxc.distro import common, credentials, detect, identity, ifupdown, setup
from bastide.guest.protocol import ContainerPlan, IdMap
from bastide.host.rootdir import RootDir
from bastide.model.container import ContainerConfig

STATIC = "name=eth0,bridge=vmbr0,ip=192.0.2.10/24,gw=192.0.2.1,ip6=2001:db8::10/64,gw6=2001:db8::1,mtu=1400"
OUTSIDE = "name=eth0,ip=192.0.2.10/32,gw=198.51.100.1,ip6=2001:db8::10/128,gw6=fe80::1"
DHCP = "name=eth0,ip=dhcp,ip6=auto"
SYSTEMD = ["usr/lib/systemd/systemd", "usr/lib/systemd/system/sys-kernel-debug.mount"]
NETWORKD = "usr/lib/systemd/system/systemd-networkd.service"
MANAGER = "usr/lib/systemd/system/NetworkManager.service"


def tree(root: Path, files: list[str], **texts: str) -> Path:
    """A root with empty files, and texts at paths written with `__` for `/`."""
    for name in [*files, *(key.replace("__", "/") for key in texts)]:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts.get(name.replace("/", "__"), ""))
        path.chmod(0o755)
    return root


def plan(root: Path, ostype: str | None, **options: Any) -> ContainerPlan:
    config = ContainerConfig.parse({"hostname": "web.example.org", "ostype": ostype, **options} if ostype else options)
    return ContainerPlan(100, config, root, [], {}, IdMap(1 << 24), ["192.0.2.53", "2001:db8::53"], "example.org")


def customized(root: Path, ostype: str, **options: Any) -> dict[str, str]:
    """Set the root up twice; what it holds afterwards, links as `-> target`. The second time changes nothing."""

    def snapshot() -> dict[str, str]:
        found = {}
        for path in sorted(root.rglob("*")):
            if path.is_symlink():
                found[str(path.relative_to(root))] = f"-> {path.readlink()}"
            elif path.is_file():
                found[str(path.relative_to(root))] = path.read_text()
        return found

    with RootDir(root) as opened:
        setup.customize(opened, plan(root, ostype, **options))
        first = snapshot()
        inodes = {path: path.lstat().st_ino for path in root.rglob("*")}
        setup.customize(opened, plan(root, ostype, **options))
    assert snapshot() == first
    assert {path: path.lstat().st_ino for path in root.rglob("*")} == inodes, "nothing is written twice"
    return first


def test_names_and_hosts(tmp_path: Path) -> None:
    found = customized(tree(tmp_path, ["sbin/ifup"], etc__hosts="127.0.0.1 localhost\n# mine\n"), "debian", net0=STATIC)
    assert found["etc/hostname"] == "web\n"
    assert found["etc/hosts"].startswith("127.0.0.1 localhost\n# mine\n")
    assert "192.0.2.10 web.example.org web\n" in found["etc/hosts"]
    assert found["etc/resolv.conf"].splitlines()[1:4] == [
        "search example.org",
        "nameserver 192.0.2.53",
        "nameserver 2001:db8::53",
    ]


def test_debian_with_ifupdown(tmp_path: Path) -> None:
    before = "# mine\nauto lo eth0\niface lo inet loopback\niface eth0 inet dhcp\n\tmetric 5\n\n"
    before += "auto wg0\niface wg0 inet manual\n"
    root = tree(tmp_path, ["sbin/ifup", *SYSTEMD], etc__network__interfaces=before)
    found = customized(root, "debian", net0=STATIC, net1="name=eth1,ip=manual")
    text = found["etc/network/interfaces"]
    assert text.startswith(
        "# mine\nauto lo\niface lo inet loopback\n#bastide# iface eth0 inet dhcp\n#bastide# \tmetric 5\n"
    )
    assert "auto wg0\niface wg0 inet manual\n" in text
    assert "auto eth0\niface eth0 inet static\n\taddress 192.0.2.10/24\n\tgateway 192.0.2.1\n" in text
    assert "iface eth0 inet6 static\n\taddress 2001:db8::10/64\n\tgateway 2001:db8::1\n" in text
    assert "eth1" not in text
    assert found["etc/systemd/system/sys-kernel-debug.mount"] == "-> /dev/null"
    # Without the interface the user's own lines come back.
    after = customized(root, "debian")["etc/network/interfaces"]
    assert "\niface eth0 inet dhcp\n\tmetric 5\n" in after
    assert "192.0.2.10" not in after


def test_a_gateway_outside_gets_a_route_of_its_own(tmp_path: Path) -> None:
    text = customized(tree(tmp_path, ["usr/sbin/ifup"]), "debian", net0=OUTSIDE)["etc/network/interfaces"]
    assert "up ip route add 198.51.100.1 dev eth0\n" in text
    assert "gateway fe80::1" in text
    assert "\tgateway 198" not in text


def test_dhcp_and_auto(tmp_path: Path) -> None:
    text = customized(tree(tmp_path, ["sbin/ifup"]), "debian", net0=DHCP)["etc/network/interfaces"]
    assert "auto eth0\niface eth0 inet dhcp\niface eth0 inet6 auto\n" in text


@pytest.mark.parametrize("ostype", ["ubuntu", "archlinux", "nixos", "debian", "fedora", "centos", "gentoo"])
def test_networkd(tmp_path: Path, ostype: str) -> None:
    root = tree(tmp_path, [NETWORKD, *SYSTEMD, "etc/systemd/network/10-bastide-old.network"])
    found = customized(root, ostype, net0=STATIC, net2="name=lan,ip=dhcp")
    text = found["etc/systemd/network/10-bastide-eth0.network"]
    for line in ("Name=eth0", "MTUBytes=1400", "DHCP=no", "IPv6AcceptRA=no", "Address=192.0.2.10/24", "DNS=192.0.2.53"):
        assert line in text.splitlines()
    assert text.count("Gateway=") == 2
    assert "DHCP=ipv4" in found["etc/systemd/network/10-bastide-lan.network"]
    assert "UseHostname=no" in found["etc/systemd/network/10-bastide-lan.network"]
    assert "etc/systemd/network/10-bastide-old.network" not in found
    wanted = "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
    assert found[wanted] == "-> /usr/lib/systemd/system/systemd-networkd.service"
    if ostype == "nixos":
        assert "etc/hostname" not in found


@pytest.mark.parametrize("ostype", ["fedora", "centos", "opensuse"])
def test_networkmanager(tmp_path: Path, ostype: str) -> None:
    root = tree(tmp_path, [MANAGER, NETWORKD, *SYSTEMD])
    found = customized(root, ostype, net0=STATIC, net1="name=lan,ip6=dhcp")
    path = "etc/NetworkManager/system-connections/bastide-eth0.nmconnection"
    for line in (
        "method=manual",
        "address1=192.0.2.10/24,192.0.2.1",
        "address1=2001:db8::10/64,2001:db8::1",
        "mtu=1400",
    ):
        assert line in found[path].splitlines()
    assert stat.S_IMODE((root / path).stat().st_mode) == 0o600
    other = found["etc/NetworkManager/system-connections/bastide-lan.nmconnection"]
    assert "[ipv4]\nmethod=disabled" in other
    assert "[ipv6]\nmethod=dhcp" in other
    assert not [name for name in found if "systemd/network" in name]


def test_network_scripts(tmp_path: Path) -> None:
    root = tree(tmp_path, ["etc/sysconfig/network"])
    found = customized(root, "centos", net0=STATIC, net1="name=eth1,ip=10.0.0.2/32,gw=10.9.9.1")
    for line in ("BOOTPROTO=none", "IPADDR=192.0.2.10", "PREFIX=24", "GATEWAY=192.0.2.1", "IPV6ADDR=2001:db8::10/64"):
        assert line in found["etc/sysconfig/network-scripts/ifcfg-eth0"].splitlines()
    assert "default via 10.9.9.1 dev eth1" in found["etc/sysconfig/network-scripts/route-eth1"]
    assert "HOSTNAME=web.example.org" in found["etc/sysconfig/network"]


def test_wicked(tmp_path: Path) -> None:
    root = tree(tmp_path, ["usr/lib/systemd/system/wicked.service", *SYSTEMD])
    found = customized(root, "opensuse", net0=STATIC, net1="name=eth1,ip=dhcp,ip6=dhcp")
    assert "IPADDR='192.0.2.10/24'" in found["etc/sysconfig/network/ifcfg-eth0"]
    assert found["etc/sysconfig/network/ifroute-eth0"].splitlines()[1:] == [
        "default 192.0.2.1 - eth0",
        "default 2001:db8::1 - eth0",
    ]
    assert "BOOTPROTO='dhcp'" in found["etc/sysconfig/network/ifcfg-eth1"]


def test_alpine(tmp_path: Path) -> None:
    inittab = (
        "::sysinit:/sbin/openrc sysinit\ntty1::respawn:/sbin/getty 38400 tty1\ntty3::respawn:/sbin/getty 38400 tty3\n"
    )
    root = tree(tmp_path, ["etc/init.d/networking"], etc__inittab=inittab, etc__securetty="console\n")
    found = customized(root, "alpine", net0=STATIC)
    assert "iface eth0 inet static" in found["etc/network/interfaces"]
    assert found["etc/runlevels/boot/networking"] == "-> /etc/init.d/networking"
    assert "\ntty1::respawn" in found["etc/inittab"]
    assert "\n#bastide# tty3::respawn" in found["etc/inittab"]
    assert "console::respawn:/sbin/getty 38400 console" in found["etc/inittab"]
    assert "tty6" in found["etc/securetty"].split()
    assert "\ntty3::respawn" in customized(root, "alpine", net0=STATIC, tty=3)["etc/inittab"]


def test_gentoo_with_openrc(tmp_path: Path) -> None:
    root = tree(tmp_path, ["etc/init.d/net.lo"], etc__conf_d="")
    (root / "etc/conf_d").unlink()
    (root / "etc/conf.d").mkdir()
    (root / "etc/conf.d/hostname").write_text('# name\nhostname="localhost"\n')
    found = customized(root, "gentoo", net0=STATIC)
    assert found["etc/conf.d/hostname"] == '# name\nhostname="web"\n'
    assert 'config_eth0="192.0.2.10/24\n2001:db8::10/64"' in found["etc/conf.d/net"]
    assert 'routes_eth0="default via 192.0.2.1\ndefault via 2001:db8::1"' in found["etc/conf.d/net"]
    assert found["etc/init.d/net.eth0"] == "-> net.lo"


def test_devuan_halts_by_powerfail() -> None:
    text = common.inittab_for(
        "id:2:initdefault:\n1:2345:respawn:/sbin/getty 38400 tty1\n6:23:respawn:/sbin/getty tty6\n", 2, console=True
    )
    assert "1:2345:respawn:/sbin/getty 38400 tty1" in text.splitlines()
    assert "#bastide# 6:23:respawn:/sbin/getty tty6" in text.splitlines()
    assert "bpf::powerfail:/sbin/shutdown -h now" in text.splitlines()
    assert common.inittab_for(text, 2, console=True) == text


def test_unmanaged_is_left_alone(tmp_path: Path) -> None:
    assert customized(tree(tmp_path, ["etc/hostname"]), "unmanaged", net0=STATIC) == {"etc/hostname": ""}


def test_resolved_and_others(tmp_path: Path) -> None:
    resolved = "usr/lib/systemd/system/systemd-resolved.service"
    root = tree(tmp_path / "a", [NETWORKD, resolved, *SYSTEMD])
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    found = customized(root, "ubuntu", net0=DHCP)
    assert found["etc/resolv.conf"] == "-> ../run/systemd/resolve/stub-resolv.conf"
    assert "DNS=192.0.2.53 2001:db8::53" in found["etc/systemd/resolved.conf.d/bastide.conf"]

    root = tree(tmp_path / "b", [NETWORKD, *SYSTEMD])
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    assert "nameserver 192.0.2.53" in customized(root, "debian", net0=DHCP)["etc/resolv.conf"]

    root = tree(tmp_path / "c", [MANAGER, *SYSTEMD])
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/resolv.conf").symlink_to("/run/NetworkManager/resolv.conf")
    assert customized(root, "fedora", net0=DHCP)["etc/resolv.conf"] == "-> /run/NetworkManager/resolv.conf"


def test_time_zone(tmp_path: Path) -> None:
    root = tree(tmp_path, ["usr/share/zoneinfo/Europe/Vienna"], etc__timezone="Etc/UTC\n")
    found = customized(root, "debian", timezone="Europe/Vienna")
    assert found["etc/localtime"] == "-> /usr/share/zoneinfo/Europe/Vienna"
    assert found["etc/timezone"] == "Europe/Vienna\n"
    assert customized(root, "debian", timezone="Mars/Base")["etc/localtime"].endswith("Vienna")


def test_prompts_of_systemd(tmp_path: Path) -> None:
    root = tree(tmp_path, ["usr/lib/systemd/system/container-getty@.service", *SYSTEMD])
    wants = "etc/systemd/system/getty.target.wants/container-getty@"
    found = customized(root, "debian", tty=3)
    assert [name[len(wants)] for name in found if name.startswith(wants)] == ["1", "2", "3"]
    assert not [name for name in customized(root, "debian", tty=0) if name.startswith(wants)]


def test_credentials(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        [],
        etc__shadow="daemon:*:1:0:99999:7:::\nroot:*:1:0:99999:7:::\n",
        etc__passwd="root:x:0:0::/root:/bin/sh\n",
    )
    (root / "etc/shadow").chmod(0o640)
    with RootDir(root) as opened:
        credentials.set_credentials(opened, "$6$a$b", "ssh-ed25519 AAA one\r\n\nssh-ed25519 BBB two\n")
        credentials.set_credentials(opened, None, "ssh-ed25519 AAA one\n")
    lines = (root / "etc/shadow").read_text().splitlines()
    assert lines[0] == "daemon:*:1:0:99999:7:::"
    assert lines[1].startswith("root:$6$a$b:")
    assert stat.S_IMODE((root / "etc/shadow").stat().st_mode) == 0o640
    keys = root / "root/.ssh/authorized_keys"
    assert keys.read_text() == "ssh-ed25519 AAA one\nssh-ed25519 BBB two\n"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.parent.stat().st_mode) == 0o700


def test_two_guests_of_one_template_differ(tmp_path: Path) -> None:
    seen = []
    for name in "ab":
        root = tree(
            tmp_path / name,
            ["usr/sbin/sshd", "etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_ed25519_key", *SYSTEMD],
            etc__machine_id="",
        )
        (root / "etc/machine_id").rename(root / "etc/machine-id")
        with RootDir(root) as opened:
            identity.set_identity(opened)
        assert stat.S_IMODE((root / "etc/ssh/ssh_host_ed25519_key").stat().st_mode) == 0o600
        assert not (root / "etc/ssh/ssh_host_rsa_key").exists()
        seen.append((root / "etc/machine-id").read_text() + (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text())
    assert seen[0] != seen[1]
    assert len(seen[0].split()[0]) == 32


@pytest.mark.parametrize(
    ("release", "family"),
    [
        ("ID=debian\n", "debian"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "centos"),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'\n", "ubuntu"),
        ("ID=opensuse-leap\n", "opensuse"),
        ("ID=arch\n", "archlinux"),
        ("ID=nixos\n", "nixos"),
        ("ID=alpine\n", "alpine"),
        ("ID='unclosed\n", "unmanaged"),
        ("ID=void\n", "unmanaged"),
    ],
)
def test_detection(tmp_path: Path, release: str, family: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text(release)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sh").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(11) + (183).to_bytes(2, "little"))
    with RootDir(tmp_path) as root:
        assert detect.distribution(root) == family
        assert detect.architecture(root) == "arm64"


EVIL: dict[str, Callable[[Path, Path], Any]] = {
    "etc": lambda root, out: (root / "etc").symlink_to(out),
    "etc relative": lambda root, out: (root / "etc").symlink_to("../outside"),
    "hosts": lambda root, out: ((root / "etc").mkdir(), (root / "etc/hosts").symlink_to(out / "canary")),
    "resolv.conf": lambda root, out: ((root / "etc").mkdir(), (root / "etc/resolv.conf").symlink_to(out / "canary")),
    "hostname": lambda root, out: ((root / "etc").mkdir(), (root / "etc/hostname").symlink_to(out / "new")),
    "network": lambda root, out: ((root / "etc").mkdir(), (root / "etc/network").symlink_to(out)),
    "shadow": lambda root, out: ((root / "etc").mkdir(), (root / "etc/shadow").symlink_to(out / "canary")),
    "root": lambda root, out: (root / "root").symlink_to(out),
    "ssh": lambda root, out: ((root / "root").mkdir(), (root / "root/.ssh").symlink_to(out)),
    "machine-id": lambda root, out: ((root / "etc").mkdir(), (root / "etc/machine-id").symlink_to(out / "canary")),
    "host keys": lambda root, out: ((root / "etc").mkdir(), (root / "etc/ssh").symlink_to(out)),
    "systemd": lambda root, out: (root / "usr").symlink_to(out),
}


@pytest.mark.parametrize("kind", EVIL)
def test_evil_roots_change_nothing_outside(tmp_path: Path, kind: str) -> None:
    """ATTACKS 5."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (outside / "canary").write_text("host\n")
    (outside / "sshd").write_text("")
    (root / "sbin").mkdir()
    (root / "sbin/ifup").touch(mode=0o755)
    EVIL[kind](root, outside)
    before = {path: (path.read_text(), path.stat().st_mtime_ns, path.stat().st_mode) for path in outside.iterdir()}
    with RootDir(root) as opened:
        for act in (
            lambda: setup.customize(opened, plan(root, "debian", net0=STATIC)),
            lambda: credentials.set_credentials(opened, "$6$a$b", "ssh-ed25519 AAA one\n"),
            lambda: identity.set_identity(opened),
        ):
            with contextlib.suppress(BastideError):
                act()
    after = {path: (path.read_text(), path.stat().st_mtime_ns, path.stat().st_mode) for path in outside.iterdir()}
    assert after == before


def test_lists_of_several_interfaces_are_kept() -> None:
    text = "auto lo eth0 eth1\nallow-hotplug eth0\niface eth1 inet dhcp\n"
    disabled = ifupdown.disable_others(text, ["eth0"])
    assert disabled == "auto lo eth1\n#bastide# allow-hotplug eth0\niface eth1 inet dhcp\n"
    assert ifupdown.disable_others(disabled, ["eth0"]) == disabled
