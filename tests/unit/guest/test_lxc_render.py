"""LXC's configuration against golden files, and against values that try to become another key.

`BASTIDE_GOLDEN=write pytest tests/unit/guest/test_lxc_render.py` writes the golden files anew.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import BastideError, InvalidParameter, NotSupported
from bastide.guest.lxc.host import HostFeatures
from bastide.guest.lxc.render import render_config
from bastide.guest.lxc.seccomp import render_seccomp
from bastide.guest.protocol import ContainerPlan, IdMap
from bastide.model.container import ContainerConfig, Features

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "lxc"
V1 = HostFeatures(cgroup=1, apparmor=False)
V2 = HostFeatures(cgroup=2, apparmor=False)
LXCFS = {"lxcfs": Path("/var/lib/lxcfs"), "lxcfs_files": ("cpuinfo", "meminfo"), "lxcfs_cpu": True}
NET0 = "name=eth0,bridge=vmbr0,hwaddr=02:00:00:AA:BB:CC,ip=dhcp"

CASES: dict[str, tuple[HostFeatures, dict[str, Any], dict[str, Any]]] = {
    "smallest": (V2, {}, {}),
    "smallest-v1": (V1, {}, {}),
    "hostname-arch": (V2, {"hostname": "web.example.org", "arch": "arm64"}, {}),
    "arch-i386": (V2, {"arch": "i386"}, {}),
    "privileged": (V2, {}, {"idmap": None}),
    "privileged-v1-sys": (V1, {"features": "force_rw_sys=1"}, {"idmap": None}),
    "memory-swap": (V2, {"memory": 2048, "swap": 0}, {}),
    "memory-swap-v1": (V1, {"memory": 2048, "swap": 1024}, {}),
    "no-swap-accounting": (replace(V2, swap_accounting=False), {"swap": 1024}, {}),
    "cpu": (V2, {"cpulimit": 1.5, "cpuunits": 50}, {"cpus": [0, 2]}),
    "cpu-v1": (V1, {"cpulimit": 0.25, "cpuunits": 2048}, {"cpus": [1]}),
    "cpu-clamped": (V2, {"cpuunits": 500000, "cpulimit": 0}, {}),
    "nesting": (V2, {"features": "nesting=1"}, {}),
    "nesting-apparmor": (replace(V2, apparmor=True), {"features": "nesting=1"}, {}),
    "apparmor": (replace(V2, apparmor=True), {}, {}),
    "apparmor-mount": (replace(V2, apparmor=True), {"features": "mount=nfs;cifs"}, {"idmap": None}),
    "fuse": (V2, {"features": "fuse=1"}, {}),
    "keyctl": (V2, {"features": "keyctl=1"}, {}),
    "lxcfs": (replace(V2, **LXCFS), {}, {}),
    "lxcfs-odd-path": (replace(V2, **{**LXCFS, "lxcfs": Path("/run/a b#c")}), {}, {}),
    "net": (V2, {"net0": NET0}, {}),
    "net-link-down": (V2, {"net0": NET0 + ",link_down=1"}, {}),
    "net-tag-rate": (V2, {"net0": NET0 + ",tag=7,rate=12.5,mtu=1400"}, {}),
    "net-trunks": (V2, {"net0": NET0 + ",trunks=2;3"}, {}),
    "net-several": (V2, {"net0": NET0, "net3": "name=lan,bridge=vmbr1,mtu=9000"}, {}),
    "net-host-managed": (
        V2,
        {"net0": "name=eth0,bridge=vmbr0,host-managed=1,ip=10.0.0.2/24,gw=10.0.0.1,ip6=2001:db8::2/64,gw6=fe80::1"},
        {},
    ),
    "terminals": (V2, {"tty": 0, "console": 0}, {}),
    "entrypoint": (V2, {"entrypoint": "/usr/bin/app --serve 'a b'", "env": "A=1\0B=two words"}, {}),
    "mounts-devices": (
        V2,
        {"mp0": "local:1,mp=/srv,ro=1", "dev0": "/dev/net/tun"},
        {"hook": ("/usr/bin/python3", "-IS", "/run/bastide/lxc/100/hook"), "devices": ["c 10:200 rw"]},
    ),
    "processes": (replace(V1, process_limit=4096), {}, {}),
}


def rendered(host: HostFeatures, options: dict[str, Any], extra: dict[str, Any]) -> str:
    config = ContainerConfig.parse(options)
    plan = ContainerPlan(
        vmid=100,
        config=config,
        rootfs=Path("/var/lib/bastide/storage/images/100/root"),
        mounts=[],
        interfaces={index: f"veth100i{index}" for index in config.net},
        idmap=extra.get("idmap", IdMap(16777216)),
    )
    return render_config(
        plan,
        host,
        instance="bastide",
        rootfs=Path("/run/bastide-guests/100/rootfs"),
        seccomp=Path("/run/bastide/lxc/100/seccomp"),
        **{key: value for key, value in extra.items() if key != "idmap"},
    )


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    text = rendered(*CASES[name])
    file = GOLDEN / f"{name}.conf"
    if os.environ.get("BASTIDE_GOLDEN") == "write":
        file.write_text(text)
    assert text == file.read_text()


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.conf")} == set(CASES)


def keys(text: str) -> list[str]:
    """Keys as LXC reads them: every line that any of the usual line ends makes."""
    return [line.partition("=")[0].strip() for line in text.replace("\r", "\n").split("\n") if line.strip()]


@given(st.text(max_size=60), st.sampled_from(["hostname", "entrypoint", "env"]))
def test_no_value_makes_a_key(value: str, option: str) -> None:
    before = {"hostname": "a", "entrypoint": "/a", "env": "A=1"}
    text = f"A={value}" if option == "env" else f"/{value}" if option == "entrypoint" else value
    # Without the records' own checks: the renderer stands alone.
    config = ContainerConfig.parse(before).model_copy(update={option: text})
    plan = ContainerPlan(100, config, Path("/r"), [], {}, IdMap(16777216))
    try:
        found = render_config(plan, V2, instance="b", rootfs=Path("/r"), seccomp=Path("/s"))
    except BastideError:
        return
    expected = keys(rendered(V2, before, {}))
    # More variables are more lines of one key; nothing else may change.
    assert [key for key in keys(found) if key != "lxc.environment"] == [
        key for key in expected if key != "lxc.environment"
    ]


@pytest.mark.parametrize("char", ["\n", "\r", "\0", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\x1b"])
@pytest.mark.parametrize("option", ["bridge", "name", "hwaddr"])
def test_interface_values_are_checked(option: str, char: str) -> None:
    config = ContainerConfig.parse({"net0": NET0})
    nic = config.net[0].model_copy(update={option: f"a{char}lxc.hook.start=/bin/sh"})
    plan = ContainerPlan(100, config.model_copy(update={"net": {0: nic}}), Path("/r"), [], {0: "v"}, IdMap(16777216))
    with pytest.raises(InvalidParameter):
        render_config(plan, V2, instance="b", rootfs=Path("/r"), seccomp=Path("/s"))


def test_what_is_not_built_is_refused() -> None:
    with pytest.raises(NotSupported, match="mknod"):
        rendered(V2, {"features": "mknod=1"}, {})
    with pytest.raises(NotSupported, match="ip6=auto"):
        rendered(V2, {"net0": "name=eth0,host-managed=1,ip6=auto"}, {})
    with pytest.raises(NotSupported, match="--root"):
        rendered(V2, {}, {"hook": ("/usr/bin/python3", "-IS", "/run/a b/hook")})


def test_seccomp_opens_what_a_feature_says_and_nothing_else() -> None:
    plain = set(render_seccomp(None, privileged=False).splitlines())
    keyctl = set(render_seccomp(Features.parse({"keyctl": "1"}), privileged=False).splitlines())
    nesting = set(render_seccomp(Features.parse({"nesting": "1"}), privileged=False).splitlines())
    privileged = set(render_seccomp(None, privileged=True).splitlines())
    assert plain - keyctl == plain - privileged == {f"{name} errno 38" for name in ("keyctl", "add_key", "request_key")}
    assert plain - nesting == {"bpf errno 1"}
    assert "socket errno 97 [0,38,SCMP_CMP_EQ]" in keyctl & nesting & privileged
