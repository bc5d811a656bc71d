"""Values that try to be an option, in what is made of a configuration: QEMU's arguments, LXC's file, cloud-init's.

Attack classes 9 and 10, over each value of each option and of each key within an option: it is refused, or what is
rendered has the same words and keys as without it.
"""

import base64
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bastide.backup.config_text import config_text, parse_config_text
from bastide.base.errors import BastideError
from bastide.guest.cloudinit import Seed, SeedNic, documents
from bastide.guest.lxc.host import HostFeatures
from bastide.guest.lxc.render import render_config
from bastide.guest.protocol import ContainerPlan, IdMap
from bastide.guest.qemu.render.argv import needs, render_argv, startup_commands
from bastide.host.qemu_facts import HostFacts
from bastide.model.container import ContainerConfig
from bastide.model.vm import VmConfig
from framework.qemu_plans import GOLDEN, HOSTS, KVM, names, numbered, planned

EVIL = [",x=y", ",,id=b", ",id=b", "=", ":x", " -device isa-debug-exit", ",if=none,file=/etc/shadow", "$(id)", ";id",
        '"}', "'", "\\", "%41", "\n-S", "\nlxc.cap.drop =", "\0", "\x85", "\u2028", "\n- evil: 1", "#"]  # fmt: skip
OWN = {"args"}
"""Further arguments for QEMU, which root alone may give."""


def changed(options: dict[str, str]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Each option with each evil text behind each of its values, and in front of it: (key, value, options)."""
    for key, value in options.items():
        parts = value.split(",")
        for at, part in enumerate(parts):
            name, equals, inner = part.rpartition("=")
            for evil in EVIL:
                for text in (part + evil, f"{name}{equals}-{evil}{inner}"):
                    new = ",".join([*parts[:at], text, *parts[at + 1 :]])
                    yield key, new, {**options, key: new}


def shape(word: str) -> object:
    """An argument without its values: an option's name, the keys of an object, the keys of a list of `key=value`."""
    if word.startswith("{"):
        return json.dumps(_keys(json.loads(word)))
    if word.startswith("-"):
        return word
    pieces = word.replace(",,", "\0").split(",")
    return tuple(piece.partition("=")[0] if "=" in piece else "" for piece in pieces)


def _keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _keys(inner) for key, inner in sorted(value.items())}
    return [_keys(inner) for inner in value] if isinstance(value, list) else ""


def rendered(options: dict[str, str], host: HostFacts) -> tuple[Counter[object], Counter[object], list[str]]:
    """The shapes of QEMU's arguments and of the commands that follow, and the files that would be opened."""
    plan = planned(VmConfig.parse(options))
    wanted = needs(plan, host)
    argv = render_argv(plan, host, numbered(wanted))
    commands = [(name, shape(json.dumps(arguments))) for name, arguments in startup_commands(plan)]
    return Counter(map(shape, argv)), Counter(commands), [need.name for need in wanted]


@pytest.mark.parametrize("name", names())
def test_no_value_of_a_vm_becomes_an_argument(name: str) -> None:
    """Class 10. Without the known keys of `model/vm_devices.py`' property strings this fails."""
    first, *lines = (GOLDEN / f"{name}.conf").read_text().splitlines()
    host, options = HOSTS[first.removeprefix("#host: ")], dict(line.split(": ", 1) for line in lines)
    texts = {"name": "web", "description": "x", "tags": "a", "smbios1": "manufacturer=A,serial=7"}
    options = {**texts, **options}
    words, commands, opened = rendered(options, host)
    for key, value, new in changed(options):
        if key in OWN or names_another(options[key], value):
            continue
        try:
            found, said, files = rendered(new, host)
        except BastideError:
            continue
        more = [word for word in found - words if isinstance(word, str) and word.startswith("-")]
        assert more == [], (key, value)
        assert "isa-debug-exit" not in str(found), (key, value)
        assert not [word for word in found - words if evil_keys(word)], (key, value, found - words)
        assert sum(found.values()) == sum(words.values()), (key, value)
        assert (said.keys() == commands.keys(), files) == (True, opened), (key, value)


@pytest.mark.parametrize("key", ["manufacturer", "product", "version", "serial", "sku", "family"])
def test_no_encoded_value_becomes_an_argument(key: str) -> None:
    """Class 10, where a comma can arrive. Without the doubled commas of `option_text` this fails."""
    words, _, _ = rendered({"smbios1": f"{key}={base64.b64encode(b'A').decode()},base64=1"}, KVM)
    for evil in EVIL:
        encoded = base64.b64encode(f"A{evil}".encode()).decode()
        with suppress(BastideError):
            assert rendered({"smbios1": f"{key}={encoded},base64=1"}, KVM)[0] == words, evil


def names_another(before: str, value: str) -> bool:
    """Whether a drive's volume is another: what its file is called is no part of what is rendered from the text."""
    first = before.partition(",")[0]
    return (first in ("none", "cdrom") or "disk-" in first or "iso/" in first) and not value.startswith(f"{first},")


def evil_keys(word: object) -> bool:
    """Whether a shape has a key that no value of these tests had before."""
    keys = json.loads(word) if isinstance(word, str) and word.startswith("{") else word
    return isinstance(keys, dict | tuple) and bool({"x", "if"} & set(keys))


def test_the_measure_sees_a_further_key() -> None:
    """What the test above counts by: an undoubled comma, a further key of an object."""
    assert shape("guest=a,,x=y") == ("guest",)
    assert shape("guest=a,x=y") == ("guest", "x")
    assert evil_keys(shape("guest=a,x=y"))
    assert evil_keys(shape('{"driver": "raw", "x": "y"}'))


CONTAINER = {
    "hostname": "web.example.org", "arch": "amd64", "ostype": "debian", "memory": "512", "swap": "256", "cores": "2",
    "cpulimit": "1.5", "cpuunits": "50", "features": "nesting=1,keyctl=1,fuse=1", "console": "1", "cmode": "tty",
    "entrypoint": "/sbin/init --x", "env": "A=1\0B=two words", "description": "x", "tags": "a;b", "tty": "2",
    "net0": "name=eth0,bridge=vmbr0,hwaddr=02:00:00:AA:BB:CC,ip=10.0.0.2/24,gw=10.0.0.1,ip6=2001:db8::2/64,tag=7,"
            "rate=12.5,mtu=1400,type=veth,firewall=1,trunks=2;3,link_down=0",
    "rootfs": "local:100/vm-100-disk-0.raw,size=8G,acl=1,mountoptions=noatime,quota=0,ro=0,shared=0,replicate=1",
    "mp0": "local:100/vm-100-disk-1.raw,mp=/srv/a,size=1G,backup=1,mountoptions=nosuid;nodev",
    "dev0": "/dev/null,mode=0660,uid=0,gid=0,deny-write=1", "nameserver": "192.0.2.1", "searchdomain": "example.org",
    "startup": "order=1,up=2,down=3", "timezone": "Europe/Paris", "hookscript": "local:snippets/x", "onboot": "1",
}  # fmt: skip
FEATURES = HostFeatures(cgroup=2, apparmor=True, lxcfs=Path("/var/lib/lxcfs"), lxcfs_files=("cpuinfo",), lxcfs_cpu=True)


def lxc_keys(options: dict[str, str]) -> Counter[str]:
    """The keys of the lines of LXC's configuration, whatever ends a line."""
    config = ContainerConfig.parse(options)
    plan = ContainerPlan(100, config, Path("/r"), [], dict.fromkeys(config.net, "veth100i0"), IdMap(16777216))
    text = render_config(plan, FEATURES, instance="b", rootfs=Path("/r"), seccomp=Path("/s"))
    return Counter(line.partition("=")[0].strip() for line in text.splitlines() if line.strip())


def test_no_value_of_a_container_becomes_a_line() -> None:
    """Class 9. Without `forbidden_character` in `model/record.py` and the renderer's own look at each line this fails.

    `test_no_value_makes_a_key` in `tests/unit/guest/test_lxc_render.py` is for the latter alone.
    """
    before, asked, taken = lxc_keys(CONTAINER), 0, 0
    for key, value, new in changed(CONTAINER):
        asked += 1
        with suppress(BastideError):
            found = lxc_keys(new)
            taken += 1
            # More words of a switch's list are more lines of one key; a variable is a line.
            extra = found - before if key not in ("env", "features") else Counter(found.keys() - before.keys())
            assert not extra, (key, value, extra)
    assert asked > 1500
    assert 0 < taken < asked / 2


def test_no_description_becomes_a_note_of_a_backups_own() -> None:
    """Class 9: a line that looks like a drive's. Without `_encoded`'s look at such a line this fails."""
    for text in ("qmdump#map:scsi0:drive-scsi0:tank:raw:", "vzdump#x", "a\nqmdump#map:scsi0:x:y:raw:\n[one]\nargs: -S"):
        read = parse_config_text(config_text({"description": text, "memory": 16}), "qemu")
        assert (dict(read.options), read.drives) == ({"description": text, "memory": "16"}, {})


@pytest.mark.parametrize(("kind", "options"), [("lxc", CONTAINER), ("qemu", {"name": "a", "description": "x"})])
def test_no_value_becomes_a_line_of_a_backups_configuration(kind: Any, options: dict[str, str]) -> None:
    """Class 9: written as text and read again, no value is another option's.

    Without the percent signs or `_forbidden` in `backup/config_text.py` this fails.
    """
    record: type[Any] = ContainerConfig if kind == "lxc" else VmConfig
    for key, value, new in changed(options):
        with suppress(BastideError):
            kept = record.parse(new).to_text()
            read = parse_config_text(config_text(kept), kind)
            assert read.options.keys() == kept.keys(), (key, value)
            assert str(read.options[key]) == str(kept[key]).rstrip(), (key, value)
            assert (read.raw, read.drives, read.dropped) == ([], {}, {}), (key, value)


MAC = "BC:24:11:00:00:01"
SEED = Seed(
    hostname="db", fqdn="db.example.org", user="ada", password_hash="$5$salt$x", ssh_keys=("ssh-ed25519 AAAA a@b",),
    nics=(SeedNic(0, MAC, ip="192.0.2.5/24", gw="192.0.2.1"),), nameservers=("192.0.2.53",), searchdomains=("lan",),
)  # fmt: skip


@pytest.mark.parametrize("form", ["nocloud", "configdrive2"])
def test_no_value_becomes_a_key_of_cloud_inits_documents(form: Any) -> None:
    """Class 9: without the quoting of YAML's own writer in `guest/cloudinit.py` this fails."""
    before = document_keys(SEED, form)
    for field in fields(SEED):
        value = getattr(SEED, field.name)
        if not (isinstance(value, str) or (isinstance(value, tuple) and value and isinstance(value[0], str))):
            continue
        for evil in EVIL:
            text = (value if isinstance(value, str) else value[0]) + evil
            with suppress(BastideError):
                made = replace(SEED, **{field.name: text if isinstance(value, str) else (text,)})
                assert document_keys(made, form) == before, (field.name, evil)


def document_keys(seed: Seed, form: Any) -> dict[str, Any]:
    """The keys of each document."""
    return {name: _keys(yaml.safe_load(text)) for name, text in documents(seed, form).items()}
