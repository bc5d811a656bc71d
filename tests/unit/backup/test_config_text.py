"""Guests' configurations as Proxmox VE writes them into backups, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.backup.config_text import MAX_SIZE, ParsedConfig, SavedDrive, config_text, parse_config_text
from bastide.base.errors import InvalidParameter
from bastide.model.container import ContainerConfig
from bastide.model.record import forbidden_character
from bastide.model.vm import VmConfig

CONTAINER = """\
#A shop%3A 50 %25 off
#
#Grüße
arch: amd64
cores: 2
features: keyctl=1,nesting=1
hostname: shop
lock: backup
memory: 1024
mp0: tank:subvol-105-disk-1,mp=/srv/data,backup=1,size=32G
net0: name=eth0,bridge=vmbr0,firewall=1,gw=192.0.2.1,hwaddr=BC:24:11:04:4F:5E,ip=192.0.2.7/24,type=veth
onboot: 1
ostype: debian
parent: before
rootfs: tank:subvol-105-disk-0,size=8G
swap: 512
unprivileged: 1
unused0: tank:subvol-105-disk-9
lxc.cgroup2.devices.allow: c 10:200 rwm
lxc.mount.entry = /dev/net/tun dev/net/tun none bind,create=file

[pve:pending]
memory: 2048

[before]
memory: 512
snaptime: 1700000000
"""
VM = """\
#web
agent: 1
boot: order=scsi0;net0
cores: 4
cpu: x86-64-v2-AES
ide2: none,media=cdrom
memory: 4096
meta: creation-qemu=9.0.2,ctime=1733420000
name: web
net0: virtio=BC:24:11:AA:BB:CC,bridge=vmbr0,firewall=1
numa: 0
ostype: l26
running-nets-host-mtu: net0=1500
scsi0: local-lvm:vm-101-disk-0,discard=on,iothread=1,size=32G,ssd=1
scsihw: virtio-scsi-single
smbios1: uuid=8a2c1f2e-1d3b-4c5d-9e6f-0a1b2c3d4e5f
sockets: 1
vmgenid: 0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d
#qmdump#map:scsi0:drive-scsi0:local-lvm:raw:
"""


def test_a_container_is_read() -> None:
    found = parse_config_text(CONTAINER, "lxc")
    assert found.options["description"] == "A shop: 50 % off\n\nGrüße"
    assert found.options["memory"] == "1024"
    assert found.options["mp0"].startswith("tank:subvol-105-disk-1,")
    assert found.raw == [
        ("lxc.cgroup2.devices.allow", "c 10:200 rwm"),
        ("lxc.mount.entry", "/dev/net/tun dev/net/tun none bind,create=file"),
    ]
    assert not {"lock", "parent", "unused0", "snaptime"} & found.options.keys()
    assert (found.drives, found.dropped, found.warnings) == ({}, {}, [])
    assert ContainerConfig.parse(found.options).rootfs is not None


def test_a_vm_is_read() -> None:
    found = parse_config_text(VM, "qemu")
    assert found.options["description"] == "web"
    assert found.drives == {"scsi0": SavedDrive("drive-scsi0", "local-lvm", "raw")}
    assert (found.raw, found.dropped) == ([], {})
    config = VmConfig.parse(found.options)
    assert config.vmgenid == "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
    assert config.meta == "creation-qemu=9.0.2,ctime=1733420000"


def test_what_is_read_is_written_again() -> None:
    found = parse_config_text(VM, "qemu")
    assert config_text(found.options, found.drives) == "".join(
        line for line in VM.splitlines(keepends=True) if not line.startswith("running-nets")
    )


def test_what_is_written() -> None:
    config = {
        "memory": 512, "hostname": "a", "cpulimit": 1.5, "cpuunits": 100.0, "env": "A=1\0B=2", "lock": "backup",
        "description": "qmdump#map\n\n50 % é\r\n", "unused3": "local:100/vm-100-disk-1.raw",
    }  # fmt: skip
    assert config_text(config) == (
        "#%71mdump#map\n#\n#50 %25 %C3%A9\ncpulimit: 1.5\ncpuunits: 100\nenv: A=1\0B=2\nhostname: a\nmemory: 512\n"
    )
    assert parse_config_text(config_text(config), "lxc").options["env"] == "A=1\0B=2"


def test_what_is_not_known_is_left_out_and_told() -> None:
    found = parse_config_text("memory: much\nlxc.idmap: u 0 0 1\nfancy: 1\nhello\ncores: 2\ncores: 3\n", "qemu")
    assert found.options == {"cores": "3"}
    assert set(found.dropped) == {"memory", "line 2", "fancy", "line 4"}
    assert "ignoring 'fancy' of the backup's configuration: no option of this kind of guest" in found.warnings
    many = parse_config_text("".join(f"x{number}: 1\n" for number in range(500)), "lxc")
    assert len(many.warnings) == 21
    assert many.warnings[-1] == "ignoring 480 more lines of the backup's configuration"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("memory: 1\0\n", r"line 1 .*U\+0000"),
        ("#ok\nhostname: a\rmemory: 5\n", r"line 2 .*U\+000D"),
        ("hostname: a\u2028memory: 5\n", r"U\+2028"),
        ("hostname: \x1b[31m\n", r"U\+001B"),
        ("hostname: a\ud800\n", r"U\+D800"),
        ("#" + "x" * MAX_SIZE, "1 MiB"),
        ("é" * (MAX_SIZE // 2 + 1), "1 MiB"),
        ("\n" * 30_000, "20000 lines"),
    ],
)
def test_what_no_configuration_holds_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidParameter, match=why):
        parse_config_text(text, "lxc")


def test_an_encoded_control_character_is_no_description() -> None:
    found = parse_config_text("#a%00b\n", "lxc")
    assert (found.options, set(found.dropped)) == ({}, {"description"})


@pytest.mark.parametrize("config", [{"hostname": "a\nmemory: 5"}, {"a b": "1"}, {"memory": "\x7f"}, {"name": "a\0b"}])
def test_what_a_line_cannot_hold_is_not_written(config: dict[str, str]) -> None:
    with pytest.raises(InvalidParameter):
        config_text(config)


_PRINTABLE = st.text().filter(lambda text: forbidden_character(text) is None)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(16, 9999))
def test_any_description_comes_back(wanted: str, memory: int) -> None:
    found = parse_config_text(config_text({"description": wanted, "memory": memory}), "qemu")
    assert found.options["memory"] == str(memory)
    if "description" in found.options:
        assert found.options["description"] == wanted.rstrip()
    elif wanted.strip():
        assert "description" in found.dropped


@given(st.text(max_size=2000))
def test_any_text_is_read_or_refused(text: str) -> None:
    for kind in ("lxc", "qemu"):
        try:
            found = parse_config_text(text, kind)
        except InvalidParameter:
            continue
        assert isinstance(found, ParsedConfig)
        for key, value in found.options.items():
            (ContainerConfig if kind == "lxc" else VmConfig).parse({key: value})


@given(st.dictionaries(st.sampled_from(["args", "tags", "searchdomain", "smbios1", "timezone"]), _PRINTABLE))
def test_a_value_stays_on_its_line(config: dict[str, str]) -> None:
    lines = config_text(config).splitlines()
    assert [line.partition(":")[0] for line in lines] == sorted(config)
