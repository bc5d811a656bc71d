"""The call and the command make the guest that is advised: the API's own records read the one, `launch` the other."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from typer import Typer
from typer.testing import CliRunner

from bastide.api.lxc import ContainerCreate, container_options
from bastide.api.qemu import VmCreate
from bastide.architect import systems
from bastide.architect.advice import advise
from bastide.base.errors import InvalidParameter
from bastide.cli import launch, launch_ct, launch_vm
from bastide.cli.launch_options import Asked
from bastide.model.advice import Advice, HostFacts
from bastide.model.catalog import CatalogEntry
from bastide.model.container import ContainerOptions
from bastide.model.service import Service
from bastide.model.vm import VmOptions

HOST = HostFacts(
    render=("/dev/dri/renderD128",),
    images={f"ct/{name}": f"local:vztmpl/{name}.tar.zst" for name in systems.SYSTEMS}
    | {f"vm/{name}": f"local:import/{name}.qcow2" for name in systems.SYSTEMS}
    | {f"iso/{name}": f"local:iso/{name}.iso" for name in systems.SYSTEMS},
)
DEVICES = (
    {"type": "gpu", "mode": "shared"},
    {"type": "gpu", "mode": "whole", "what": "01:00"},
    {"type": "gpu", "mode": "whole"},
    {"type": "pci", "what": "0000:02:00.0"},
    {"type": "pci", "what": "/dev/apex_0"},
    {"type": "usb", "what": "10c4:ea60"},
    {"type": "usb", "mode": "whole", "what": "1-4.2"},
    {"type": "usb", "mode": "node", "what": "/dev/serial/by-id/usb-Silicon_Labs"},
    {"type": "usb"},
    {"type": "serial", "what": "/dev/ttyS1"},
    {"type": "disk", "mode": "whole", "what": "/dev/disk/by-id/ata-x"},
    {"type": "disk", "mode": "whole"},
    {"type": "tun"},
    {"type": "fuse"},
    {"type": "kvm"},
    {"type": "sound"},
)
SERVICES = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("thing"),
        "service": st.sampled_from(["some.thing+1", "x"]),
        "os": st.sampled_from(sorted(systems.SYSTEMS)),
        "exposure": st.sampled_from(["internet", "lan"]),
        "engine": st.sampled_from(["docker", "kubernetes", "none"]),
        "devices": st.lists(st.sampled_from(DEVICES), max_size=14),
        "live_migration": st.booleans(),
        "nested_virtualization": st.booleans(),
        "ephemeral": st.booleans(),
        "kind": st.sampled_from(["ct", "vm"]),
        "memory": st.sampled_from(["512M", "3000M", "8G"]),
        "disk": st.sampled_from(["1536M", "8G", "64G"]),
    },
)
HOSTS = st.fixed_dictionaries(
    {"kvm": st.booleans(), "storage": st.sampled_from(["local", "fast"]), "bridge": st.sampled_from(["vmbr0", "br1"])}
).map(lambda changes: HOST.model_copy(update={"node": "pve1", **changes}))


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as they come in a request."""
    return {key: str(int(value) if isinstance(value, bool) else value) for key, value in values.items()}


def parsed(advice: Advice) -> ContainerOptions | VmOptions:
    """What the API makes of the call's parameters."""
    branch = advice.request.path.rpartition("/")[2]
    values = {**texts(advice.request.parameters), "vmid": "100", "node": "pve1"}
    if branch == "lxc":
        return container_options(ContainerCreate.parse(values))
    return VmCreate.parse(values).options()


@given(SERVICES, HOSTS)
@settings(deadline=None)
def test_the_api_accepts_the_call(values: dict[str, Any], host: HostFacts) -> None:
    try:
        advice = advise(Service.model_validate(values), None, host)
    except InvalidParameter:
        assume(False)
    options = parsed(advice).to_text()
    assert advice.request.path == f"/nodes/pve1/{'lxc' if advice.kind == 'ct' else 'qemu'}"
    assert int(options["memory"]) == advice.sizing.memory >> 20
    assert options["cores"] == advice.sizing.cores
    assert set(advice.settings) <= set(options)
    record = ContainerOptions if advice.kind == "ct" else VmOptions
    assert set(record.parse(advice.settings).to_text()) == set(advice.settings)


def asked_by(command: str, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What `launch` reads from a command line."""
    caught: list[Asked] = []
    monkeypatch.setattr(launch, "run", lambda _session, asked, *_rest: caught.append(asked))
    monkeypatch.setattr(Asked, "may_be_service", False, raising=False)
    app = Typer()
    app.command()(launch.launch)
    program, verb, *words = shlex.split(command)
    assert (program, verb) == ("bastide", "launch")
    ended = CliRunner().invoke(app, words, obj=object(), catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return caught[0]


class FakeSession:
    """As much of a session as `launch` asks before it makes a guest: a host with KVM and every image."""

    def __init__(self, host: HostFacts) -> None:
        self._host = host

    def client(self) -> "FakeSession":
        return self

    def node(self) -> str:
        return self._host.node

    def get(self, path: str, **query: Any) -> Any:
        if path.endswith("/capabilities/qemu/cpu"):
            return [{"name": "host"}] if self._host.kvm else []
        if path == "/bastide/images":
            kind = "ct" if query["type"] == "lxc" else "vm"
            name = str(query["name"])
            known = {system.image: system.name for system in systems.SYSTEMS.values() if system.image}
            return [{"volid": self._host.images.get(f"{kind}/{known.get(name, '')}", name)}]
        raise AssertionError(path)


def launched(advice: Advice, host: HostFacts, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The parameters that `launch` would send for the advised command."""
    asked = asked_by(advice.command, monkeypatch)
    maker = launch_vm if asked.vm else launch_ct
    session: Any = FakeSession(host)
    params = {**maker.local_parameters(asked), **maker.host_parameters(session, asked)}
    sent = texts({key: value for key, value in params.items() if value is not None})
    if advice.kind == "ct":
        made = container_options(ContainerCreate.parse({**sent, "vmid": "100", "node": "pve1"})).to_text()
        return {"swap": 512, **made}  # what an absent one means
    return VmCreate.parse({**sent, "vmid": "100", "node": "pve1"}).options().to_text()


LAUNCHED = (
    {},
    {"os": "alpine", "name": "small"},
    {"os": "fedora-42", "memory": "3000M", "disk": "20G"},
    {"engine": "docker", "kind": "ct"},
    {"engine": "kubernetes", "kind": "ct"},
    {"devices": [{"type": "gpu"}, {"type": "tun"}, {"type": "fuse"}, {"type": "serial", "what": "/dev/ttyS1"}]},
    {"ephemeral": True},
    {"exposure": "internet", "name": "web"},
    {"live_migration": True},
    {"devices": [{"type": "gpu", "mode": "whole", "what": "01:00"}, {"type": "usb", "what": "1-4"}]},
    {"os": "windows-server-2022", "name": "dc1"},
    {"os": "windows-10"},
    {"os": "freebsd-14"},
    {"os": "opnsense"},
    {"os": "truenas-scale"},
    {"os": "home-assistant-os"},
    {"os": "esxi"},
)


@pytest.mark.parametrize("kvm", [True, False])
@pytest.mark.parametrize("values", LAUNCHED, ids=str)
def test_the_command_makes_the_same_guest(values: dict[str, Any], kvm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    host = HOST.model_copy(update={"kvm": kvm})
    advice = advise(Service.model_validate(values), None, host)
    sent, wanted = launched(advice, host, monkeypatch), parsed(advice).to_text()
    extra = {"ide2", "ciupgrade", "ipconfig0"} if advice.os == "home-assistant-os" else set()
    assert {key: value for key, value in sent.items() if key not in extra} == wanted


ENTRY = CatalogEntry.model_validate({
    "name": "nginx", "title": "nginx", "summary": "a web server", "category": "web", "source": "made up",
    "size": {
        "minimum": {"cores": 1, "memory": "64M", "disk": "2G"}, "usual": {"cores": 1, "memory": "256M", "disk": "4G"},
    },
    "recipe": {"packages": ["nginx"], "probe": {"type": "http", "port": 80}},
    "upstream": "https://nginx.org/",
})  # fmt: skip


@pytest.mark.parametrize(
    ("values", "command"),
    [
        ({}, "bastide launch nginx"),
        ({"name": "web"}, "bastide launch nginx web"),
        ({"exposure": "internet"}, "bastide launch nginx --vm"),
        ({"name": "web", "kind": "vm", "memory": "2G"}, "bastide launch nginx web --vm --memory 2G"),
        ({"cores": 4, "disk": "16G"}, "bastide launch nginx --cores 4 --disk 16G"),
    ],
)
def test_an_entry_with_a_recipe_is_launched_by_its_name(values: dict[str, Any], command: str) -> None:
    advice = advise(Service.model_validate(values), ENTRY, HOST)
    assert advice.installs
    assert advice.command == command


def test_a_system_that_the_recipe_does_not_know_gets_no_recipe() -> None:
    advice = advise(Service(os="fedora-42"), ENTRY, HOST)
    assert not advice.installs
    assert advice.command.startswith("bastide launch fedora/42 nginx --cores 1 --memory 256M --disk 4G")
    assert any("https://nginx.org/" in note for note in advice.notes)


def test_a_name_is_a_host_name() -> None:
    for service in ("some.thing+1", "a_b", "x"):
        name = advise(Service(service=service), None, HOST).name
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name)
