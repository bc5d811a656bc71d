"""Who may set which option of a VM: each privilege alone, what is root@pam's, and what options reach."""

import csv
from pathlib import Path
from typing import Any

import httpx
import pytest

from bastide.api import qemu_permissions
from bastide.model.record import indexed_fields
from bastide.model.vm import VmOptions
from framework.api import Api, call

pytestmark = pytest.mark.anyio

QEMU = "/nodes/pve/qemu"
CONFIG = f"{QEMU}/100/config"

ALL = [
    "VM.Config.CPU", "VM.Config.Memory", "VM.Config.HWType", "VM.Config.Options", "VM.Config.Disk", "VM.Config.CDROM",
    "VM.Config.Network", "VM.Config.Cloudinit", "VM.PowerMgmt",
]  # fmt: skip

BY_PRIVILEGE: list[tuple[dict[str, str], str]] = [
    *(({key: value}, "VM.Config.CPU") for key, value in (
        ("cores", "2"), ("sockets", "2"), ("cpu", "qemu64"), ("cpulimit", "1"), ("cpuunits", "50"), ("vcpus", "1"),
        ("numa", "1"), ("numa0", "cpus=0"), ("delete", "cores"), ("revert", "cpu"),
    )),
    *(({key: value}, "VM.Config.Memory") for key, value in (
        ("memory", "64"), ("balloon", "0"), ("shares", "5"), ("allow-ksm", "0"),
    )),
    *(({key: value}, "VM.Config.HWType") for key, value in (
        ("machine", "q35"), ("scsihw", "lsi"), ("vga", "std"), ("acpi", "0"), ("kvm", "0"), ("tablet", "0"),
        ("hotplug", "0"), ("smbios1", "serial=x"), ("audio0", "device=AC97"), ("rng0", "source=/dev/urandom"),
        ("watchdog", "i6300esb"), ("serial0", "socket"), ("usb0", "spice"), ("delete", "vga"),
    )),
    *(({key: value}, "VM.Config.Options") for key, value in (
        ("name", "x"), ("onboot", "1"), ("tags", "x"), ("description", "x"), ("agent", "1"), ("bios", "seabios"),
        ("ostype", "l26"), ("protection", "0"), ("keyboard", "de"), ("delete", "tags"),
    )),
    *(({key: value}, "VM.Config.Disk") for key, value in (
        ("boot", "order=net0"), ("scsi0", "local:1"), ("efidisk0", "local:1"), ("delete", "scsi7"),
        ("vmstatestorage", "local"), ("delete", "unused0"),
    )),
    ({"ide2": "none,media=cdrom"}, "VM.Config.CDROM"),
    ({"cdrom": "none"}, "VM.Config.CDROM"),
    ({"net0": "virtio"}, "VM.Config.Network"),
    ({"freeze": "1"}, "VM.PowerMgmt"),
]  # fmt: skip


async def make(api: Api, vmid: int = 100, **options: Any) -> None:
    assert await api.wait(await api.data("POST", QEMU, vmid=vmid, name=f"vm{vmid}", **options)) == "OK"


async def role(api: Api, *privileges: str) -> httpx.AsyncClient:
    """A user with just these privileges everywhere."""
    await api.data("POST", "/access/roles", roleid="Just", privs=",".join(privileges))
    client: httpx.AsyncClient = await api.token(grants={"/": "Just"})
    return client


def message(answer: httpx.Response) -> str:
    return str(answer.json()["message"]).strip()


@pytest.mark.parametrize(("options", "privilege"), BY_PRIVILEGE, ids=str)
async def test_each_option_has_its_own_privilege(api: Api, options: dict[str, str], privilege: str) -> None:
    await make(api)
    others = [name for name in ALL if name != privilege and not ("net" in str(options) and "Cloudinit" in name)]
    user = await role(api, *others, "Datastore.AllocateSpace")
    answer = await call(user, "PUT", CONFIG, **options)
    assert (answer.status_code, message(answer)) == (403, f"Permission check failed (/vms/100, {privilege})")
    await api.data("PUT", "/access/roles/Just", privs=privilege, append=1)
    answer = await call(user, "PUT", CONFIG, **options)
    assert answer.status_code != 403, answer.text


@pytest.mark.parametrize("privilege", ["VM.Config.Cloudinit", "VM.Config.Network"])
async def test_cloud_init_needs_either_of_two(api: Api, privilege: str) -> None:
    await make(api)
    user = await role(api, "VM.Config.Options")
    options = {"ciuser": "ada", "ipconfig0": "ip=dhcp", "sshkeys": "ssh-ed25519%20AAAA%20x", "nameserver": "192.0.2.1"}
    for key, value in options.items():
        assert (await call(user, "PUT", CONFIG, **{key: value})).status_code == 403
    await api.data("PUT", "/access/roles/Just", privs=privilege, append=1)
    assert (await call(user, "PUT", CONFIG, **options)).status_code == 200


ROOT_ONLY: list[dict[str, str]] = [
    {"args": "-s"}, {"hookscript": "local:snippets/x.sh"}, {"lock": "backup"}, {"serial1": "/dev/ttyS0"},
    {"parallel0": "/dev/parport0"}, {"usb1": "host=1234:5678"}, {"usb1": "host=1-2"}, {"hostpci1": "host=01:00.0"},
    {"hostpci1": "mapping=card,romfile=x.rom"}, {"scsi1": "/dev/sda"}, {"scsi1": "/etc/shadow,format=raw"},
    {"ide3": "/dev/sr0,media=cdrom"}, {"scsi1": "local:0,import-from=/etc/shadow"}, {"unused3": "/dev/sda"},
    {"intel-tdx": "x"}, {"amd-sev": "x"}, {"hugepages": "2"}, {"keephugepages": "1"}, {"ivshmem": "size=1"},
    {"vmgenid": "1"}, {"affinity": "0"}, {"arch": "x86_64"}, {"spice_enhancements": "foldersharing=1"},
    {"delete": "args"}, {"delete": "hookscript"}, {"revert": "lock"}, {"delete": "parallel0"}, {"delete": "nonsense"},
    {"skiplock": "1", "cores": "1"},
    # the present value is a device of the host's
    {"delete": "serial0"}, {"serial0": "socket"}, {"delete": "usb0"}, {"usb0": "spice"}, {"delete": "hostpci0"},
    {"hostpci0": "mapping=card"}, {"revert": "serial0"},
]  # fmt: skip

HARMLESS_ALONE = [
    {"serial0": "socket"},
    {"usb0": "spice"},
    {"hostpci0": "mapping=card"},
    {"skiplock": "1", "cores": "1"},
]
"""What is refused for the present value, or for how it is asked."""


@pytest.fixture
async def owned(api: Api) -> Api:
    """A VM that has what only root@pam can give, made as an upgrade or a restore would find it."""
    await make(api)
    guest = await api.services.rooms.guests.get(100)
    config = {**guest.config, "serial0": "/dev/ttyS0", "usb0": "host=1234:5678", "hostpci0": "host=01:00.0"}
    await api.services.rooms.guests.update(guest.with_config(config))
    return api


@pytest.mark.parametrize("options", ROOT_ONLY, ids=str)
async def test_what_reaches_the_host_is_for_root_alone(owned: Api, options: dict[str, str]) -> None:
    admin = await owned.token(grants={"/": "Administrator"})
    full = await owned.data("POST", "/access/users/root@pam/token/full", privsep=0)
    new = {key: value for key, value in options.items() if key not in ("delete", "revert", "skiplock")}
    for secret in (None, f"PVEAPIToken=root@pam!full={full['value']}"):
        if secret is not None:
            admin.headers["Authorization"] = secret
        for method in ("PUT", "POST"):
            answer = await call(admin, method, CONFIG, **options)
            assert answer.status_code == 403, answer.text
        if new and options not in HARMLESS_ALONE:
            answer = await call(admin, "POST", QEMU, vmid=101, **new)
            assert answer.status_code == 403, answer.text
    unchanged = (await owned.services.rooms.guests.get(100)).config
    assert (unchanged["serial0"], len(await owned.data("GET", QEMU))) == ("/dev/ttyS0", 1)


async def test_other_doors_are_shut_too(owned: Api) -> None:
    admin = await owned.token(grants={"/": "Administrator"})
    answer = await call(admin, "PUT", f"{QEMU}/100/unlink", idlist="serial0")
    assert answer.status_code == 403
    for path in ("start", "stop", "reset", "shutdown", "suspend", "resume"):
        assert (await call(admin, "POST", f"{QEMU}/100/status/{path}", skiplock=1)).status_code == 403
    for values in ({"stateuri": "tcp:x"}, {"migratedfrom": "a"}, {"force-cpu": "x"}, {"machine": "q35"}):
        assert (await call(admin, "POST", f"{QEMU}/100/status/start", **values)).status_code == 403
    assert (await call(admin, "DELETE", f"{QEMU}/100", skiplock=1)).status_code == 403


def test_every_option_is_decided() -> None:
    """An option that the model gains is root@pam's alone until a table says otherwise."""
    stems = indexed_fields(VmOptions)
    names = {field.alias or name for name, field in VmOptions.model_fields.items()}
    keys = {stems.get(name, name) for name in names}
    root_only = keys - set(qemu_permissions._PRIVILEGES)
    assert root_only == {
        "affinity", "amd-sev", "arch", "args", "hookscript", "hugepages", "intel-tdx", "ivshmem", "keephugepages",
        "lock", "parallel", "spice_enhancements", "vmgenid",
    }  # fmt: skip
    assert set(qemu_permissions._PRIVILEGES) <= keys, "what is no option"
    for key in ("audio0", "efidisk0", "rng0", "smbios1", "tpmstate0", "scsi12", "numa3", "net0"):
        assert qemu_permissions.stem(key) in qemu_permissions._PRIVILEGES


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"net0": "virtio,bridge=vmbr0"}, "/sdn/zones/localnetwork/vmbr0, SDN.Use"),
        ({"net0": "virtio,bridge=vmbr0,tag=7"}, "/sdn/zones/localnetwork/vmbr0/7, SDN.Use"),
        ({"net0": "virtio,bridge=vmbr0,trunks=7"}, "/sdn/zones/localnetwork/vmbr0/7, SDN.Use"),
        ({"scsi0": "local:1"}, "/storage/local, Datastore.AllocateSpace"),
        ({"efidisk0": "local:1"}, "/storage/local, Datastore.AllocateSpace"),
        ({"ide2": "local:cloudinit"}, "/storage/local, Datastore.AllocateSpace"),
        ({"ide2": "local:cloudinit,media=cdrom"}, "/storage/local, Datastore.AllocateSpace"),
        ({"ide2": "cdrom,media=cdrom"}, "/, Sys.Console"),
        ({"ide2": "local:iso/a.iso,media=cdrom"}, "/storage/local, Datastore.AllocateSpace|Datastore.Audit"),
        ({"vmstatestorage": "local"}, "/storage/local, Datastore.AllocateSpace"),
        ({"startup": "order=1"}, "/, Sys.Modify"),
        ({"rng0": "source=/dev/hwrng"}, "/mapping/hwrng, Mapping.Use"),
        ({"usb0": "mapping=stick"}, "/mapping/usb/stick, Mapping.Use"),
        ({"hostpci0": "mapping=card"}, "/mapping/pci/card, Mapping.Use"),
        ({"virtiofs0": "share"}, "/mapping/dir/share, Mapping.Use"),
        ({"cicustom": "user=local:snippets/u.yaml"}, "/storage/local, Datastore.Allocate"),
    ],
    ids=str,
)
async def test_what_options_reach_has_its_own_rights(api: Api, options: dict[str, str], refusal: str) -> None:
    await make(api)
    root = api.services.rooms.layout.local_storage
    for name in ("template/iso/a.iso", "snippets/u.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    await api.data("PUT", "/storage/local", content="iso,images,snippets,vztmpl,rootdir,import")
    user = await api.token(grants={"/vms": "PVEVMAdmin"})
    for method, path in (("PUT", CONFIG), ("POST", CONFIG), ("POST", QEMU)):
        values = {**options, "vmid": "101"} if path == QEMU else options
        answer = await call(user, method, path, **values)
        assert (answer.status_code, message(answer)) == (403, f"Permission check failed ({refusal})"), (method, path)


async def test_anothers_disk_cannot_be_taken_or_copied(api: Api) -> None:
    await make(api, 100, scsi0="local:1,format=raw")
    await make(api, 101)
    user = await api.token(grants={"/vms/101": "PVEVMAdmin", "/storage": "PVEDatastoreUser"})
    volume = str((await api.data("GET", CONFIG))["scsi0"]).partition(",")[0]
    for options, privilege in (
        ({"scsi0": volume}, "VM.Config.Disk"),
        ({"unused0": volume}, "VM.Config.Disk"),
        ({"scsi0": f"local:0,import-from={volume}"}, "VM.Clone"),
    ):
        answer = await call(user, "PUT", f"{QEMU}/101/config", **options)
        assert (answer.status_code, message(answer)) == (403, f"Permission check failed (/vms/100, {privilege})")
    answer = await call(user, "POST", f"{QEMU}/101/move_disk", disk="scsi0", **{"target-vmid": 100})
    assert message(answer) == "Permission check failed (/vms/100, VM.Config.Disk)"


async def test_growing_and_moving_need_space(api: Api) -> None:
    await make(api, scsi0="local:1,format=raw")
    user = await api.token(grants={"/vms": "PVEVMAdmin"})
    for method, path, values in (("PUT", "resize", {"size": "+1G"}), ("POST", "move_disk", {"format": "qcow2"})):
        answer = await call(user, method, f"{QEMU}/100/{path}", disk="scsi0", **values)
        assert message(answer) == "Permission check failed (/storage/local, Datastore.AllocateSpace)"


async def test_making_needs_the_vm_or_the_pool(api: Api) -> None:
    await api.data("POST", "/pools", poolid="team")
    user = await api.token(grants={"/pool/team": "PVEVMAdmin"})
    alone = await call(user, "POST", QEMU, vmid=100, cores=1)
    assert message(alone) == "Permission check failed (/vms/100, VM.Allocate)"
    within = await call(user, "POST", QEMU, vmid=100, cores=1, pool="team")
    assert within.status_code == 200, within.text
    assert await api.wait(within.json()["data"]) == "OK"
    assert [row["vmid"] for row in (await user.get(QEMU)).json()["data"]] == [100]
    disk = await call(user, "POST", QEMU, vmid=101, pool="team", ostype="win11")
    assert message(disk) == "Permission check failed (/storage/local, Datastore.AllocateSpace)", "for its TPM"


async def test_lists_show_what_the_caller_may_see(api: Api) -> None:
    await make(api, 100)
    await make(api, 101)
    user = await api.token(grants={"/vms/101": "PVEVMUser"})
    assert [row["vmid"] for row in (await user.get(QEMU)).json()["data"]] == [101]
    assert (await user.get(CONFIG)).status_code == 403
    for path in ("screenshot", "cloudinit"):
        assert (await user.get(f"/bastide/guests/100/{path}")).status_code == 403


async def test_the_monitor_shows_and_does_nothing_else(api: Api) -> None:
    await make(api)
    assert await api.wait(await api.data("POST", f"{QEMU}/100/status/start")) == "OK"
    auditor = await api.token(grants={"/": "PVEAuditor"})
    for command, status in (
        ("info status", 200), (" info version", 200), ("help", 200), ("?", 200), ("quit", 403), ("infox", 403),
        ("drive_add 0 file=/etc/shadow", 403), ("savevm info", 403), ("information", 403), (" ", 403),
        ("screendump /root/x", 403), ("info status\nquit", 400),
    ):  # fmt: skip
        answer = await call(auditor, "POST", f"{QEMU}/100/monitor", command=command)
        assert answer.status_code == status, command


async def test_agent_methods_have_privileges_of_their_own(api: Api) -> None:
    await make(api)
    reader = await role(api, "VM.GuestAgent.FileRead")
    for method, path, status in (
        ("GET", "file-read?file=/a", 500), ("POST", "file-write", 403), ("POST", "exec", 403), ("POST", "ping", 403),
        ("POST", "", 403), ("GET", "info", 403), ("POST", "set-user-password", 403), ("GET", "exec-status?pid=1", 403),
        ("POST", "fsfreeze-freeze", 403), ("POST", "shutdown", 403), ("POST", "suspend-disk", 403),
    ):  # fmt: skip
        answer = await reader.request(method, f"{QEMU}/100/agent/{path}".rstrip("/"))
        assert answer.status_code == status, (path, answer.text)


async def test_cloud_init_texts_need_the_right_to_change_them(api: Api) -> None:
    await make(api)
    auditor = await api.token(grants={"/": "PVEAuditor"})
    path = "/bastide/guests/vm100/cloudinit"
    await api.data("PUT", path, user="#cloud-config\npassword: horse\n")
    for method, values in (("GET", {}), ("PUT", {"user": "x"})):
        answer = await call(auditor, method, path, **values)
        assert message(answer) == "Permission check failed (/vms/100, VM.Config.Cloudinit)", method


async def test_the_declared_permissions_are_enforced_as_the_table_says(api: Api, reference: Path) -> None:
    """The decision table of the reference, for the roles of one privilege, over the real routes."""
    await make(api)
    with (reference / "authz/decisions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["path"].startswith("/nodes/{node}/qemu/{vmid}/agent/")]
    rows = [row for row in rows if row["vmid"] == "100"]
    people = [name for name in rows[0] if name.startswith("p-VM_GuestAgent")]
    assert (len(people), len(rows) > 20) == (5, True)
    for number, person in enumerate(people):
        privilege = person.removeprefix("p-").partition("@")[0].replace("_", ".")
        await api.data("POST", "/access/roles", roleid=f"Just{number}", privs=privilege)
        user = await api.token(f"u{number}@pve", grants={"/": f"Just{number}"})
        for row in rows:
            path = row["path"].format(node="pve", vmid=100)
            answer = await user.request(row["method"], path)
            assert (answer.status_code != 403) == (row[person] == "1"), (person, path, answer.text)
