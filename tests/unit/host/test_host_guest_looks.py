"""What is seen of containers in a /proc made of files."""

import os
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bastide.host import guest_looks
from bastide.host.guest_looks import Listener, Looks, look, parse_listeners, parse_nfs_mounts

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 057100CB:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0
   3: 057100CB:01BB 0200000A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0 100 0 0 10 0
   4: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 5 1 0 100 0 0 10 0
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000
   1: 00000000000000000000000001000000:0277 00000000000000000000000000000000:0000 0A 00000000:00000000
   2: 0000000000000000FFFF0000057100CB:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000
"""
MOUNTS = """\
36 35 98:0 / / rw,noatime master:1 - ext4 /dev/loop3 rw
40 36 0:50 / /srv/share rw,relatime shared:2 - nfs4 nas:/share rw,vers=4.2
41 36 0:51 / /srv/old\\040one rw - nfs nas:/old rw
42 36 0:52 / /proc/fs/nfsd rw - nfsd nfsd rw
43 36 0:53 / /srv/nfs rw - tmpfs tmpfs rw
"""


def test_listening_sockets() -> None:
    assert parse_listeners(TCP) == (Listener(IPv4Address("203.0.113.5"), 443), Listener(IPv4Address("0.0.0.0"), 22))
    assert parse_listeners(TCP6) == (Listener(IPv6Address("::"), 80), Listener(IPv4Address("203.0.113.5"), 8080))


def test_nfs_mounts() -> None:
    assert parse_nfs_mounts(MOUNTS) == ("/srv/share", "/srv/old\\040one")


def test_what_a_guest_names_is_printable_and_not_without_end() -> None:
    text = "".join(f"1 1 0:1 / /srv/{number}\x1b[2J\x85 rw - nfs a rw\n" for number in range(1000))
    found = parse_nfs_mounts(text)
    assert 0 < len(found) < 100
    assert all(path.isprintable() for path in found)


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    for header in ("", "header\n"):
        parse_listeners(header + text)
        parse_nfs_mounts(header + text)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_address_is_read_as_the_kernel_writes_it(address: IPv4Address | IPv6Address, port: int) -> None:
    words = (address.packed[at : at + 4] for at in range(0, len(address.packed), 4))
    text = "".join(f"{struct.unpack('=I', word)[0]:08X}" for word in words)
    plain = (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
    found = parse_listeners(f"header\n 0: {text}:{port:04X} 0:0 0A\n")
    assert found == (() if plain.is_loopback else (Listener(plain, port),))


def process(proc: Path, pid: int, name: str, space: Path, tcp: str = "", mounts: str = "") -> None:
    folder = proc / str(pid)
    (folder / "ns").mkdir(parents=True)
    os.link(space, folder / "ns/pid")
    (folder / "comm").write_text(f"{name}\n")
    (folder / "net").mkdir()
    (folder / "net/tcp").write_text(tcp)
    (folder / "mountinfo").write_text(mounts)


def test_containers_are_told_apart_by_their_namespaces(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    (proc / "sys").mkdir(parents=True)
    spaces = [tmp_path / f"space{number}" for number in range(3)]
    for space in spaces:
        space.write_text("")
    process(proc, 1, "dockerd", spaces[0])  # the host's own
    process(proc, 10, "systemd", spaces[1], TCP, MOUNTS)
    process(proc, 11, "dockerd", spaces[1])
    process(proc, 12, "other", spaces[1])
    process(proc, 20, "systemd", spaces[2])
    process(proc, 21, "kubelet", spaces[2])
    found = look({100: 10, 101: 20, 102: 999}, ["dockerd", "kubelet"], proc)
    assert set(found) == {100, 101}
    assert found[100].processes == {"dockerd"}
    assert found[100].nfs_mounts == ("/srv/share", "/srv/old\\040one")
    assert [(str(one.address), one.port) for one in found[100].listeners] == [("203.0.113.5", 443), ("0.0.0.0", 22)]
    assert found[101] == Looks(frozenset({"kubelet"}))


def test_a_file_is_read_up_to_its_limit(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(guest_looks, "READ_LIMIT", TCP.index("   2:"))
    space = tmp_path / "space"
    space.write_text("")
    process(tmp_path / "proc", 10, "init", space, TCP)
    found = look({100: 10}, [], tmp_path / "proc")
    assert [one.address for one in found[100].listeners] == [ip_address("203.0.113.5")]


def test_the_machines_own_kernel_is_read() -> None:
    name = Path("/proc/self/comm").read_text().strip()
    assert name in look({1: os.getpid()}, [name])[1].processes
