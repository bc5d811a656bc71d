"""Operations on VMs over the fakes: what fails at any step leaves nothing, what works is recorded."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from bastide.base.errors import (
    AlreadyExists,
    Conflict,
    DeadlineExceeded,
    HostFailure,
    InvalidParameter,
    Locked,
    NotFound,
    NotSupported,
    WrongState,
)
from bastide.base.ids import Upid, VolumeId
from bastide.guest.engines import Engines
from bastide.guest.fake_vm import FakeVmEngine
from bastide.model.access import ROOT
from bastide.model.guest import GuestState
from bastide.model.vm import VmOptions
from bastide.network.fake import FakeNetwork
from bastide.operations import inspect
from bastide.operations.destroy import destroy_guest
from bastide.operations.pending import pending_rows
from bastide.operations.recover import recover
from bastide.operations.rooms import Rooms
from bastide.operations.vm import agent, cloudinit, configure, disks, power
from bastide.operations.vm.cloudinit import CloudInit
from bastide.operations.vm.create import create_vm
from bastide.operations.vm.move import Move, move_disk
from bastide.operations.watch import watch_stops
from framework.rooms import fake_rooms

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    rooms = await fake_rooms(tmp_path)
    # Which format is the default depends on the file system below.
    await rooms.storages.update("local", {"format": "raw"})
    return replace(rooms, engines=Engines(rooms.containers, FakeVmEngine()))


def engine(rooms: Rooms) -> FakeVmEngine:
    return cast(FakeVmEngine, rooms.vms)


async def end(rooms: Rooms, upid: Upid) -> str:
    return str((await rooms.tasks.wait(upid)).exitstatus)


async def create(rooms: Rooms, vmid: int = 100, *, start: bool = False, **values: object) -> str:
    options = VmOptions.parse({"name": "db", "scsi0": "local:1", "net0": "virtio,bridge=vmbr0", **values})
    return await end(rooms, await create_vm(rooms, ROOT, vmid, options, start=start))


async def change(rooms: Rooms, vmid: int = 100, *, delete: tuple[str, ...] = (), **values: object) -> dict[str, Any]:
    await configure.update_config(rooms, ROOT, vmid, VmOptions.parse(values), delete=delete)
    return dict((await rooms.guests.get(vmid)).config)


async def volumes(rooms: Rooms) -> set[str]:
    storage = await rooms.storages.get("local")
    return {volume.volid for volume in await storage.list("images")}


def told(rooms: Rooms) -> list[str]:
    return [action for action, *_ in engine(rooms).told]


async def test_create_start_stop_destroy(rooms: Rooms) -> None:
    assert await create(rooms, start=True, ide2="local:cloudinit", ipconfig0="ip=dhcp") == "OK"
    guest = await rooms.guests.get(100, "qemu")
    assert guest.first_id is not None
    assert guest.config["scsi0"] == "local:100/vm-100-disk-0.raw,size=1G"
    assert guest.config["ide2"] == "local:100/vm-100-cloudinit.raw,media=cdrom"
    assert str(guest.config["net0"]).startswith("virtio=")
    assert str(guest.config["smbios1"]).startswith("uuid=")
    assert len(str(guest.config["vmgenid"])) == 36
    assert guest.config["boot"] == "order=scsi0;net0"
    assert "lock" not in guest.config
    assert rooms.engines.running() == {100}
    with pytest.raises(WrongState, match="is running"):
        await destroy_guest(rooms, ROOT, 100)
    with pytest.raises(WrongState, match="already running"):
        await power.start(rooms, ROOT, 100)
    assert await end(rooms, await power.stop(rooms, ROOT, 100)) == "OK"
    assert await end(rooms, await destroy_guest(rooms, ROOT, 100)) == "OK"
    assert await rooms.guests.list() == []
    assert await volumes(rooms) == set()
    assert await rooms.locks.list() == []


async def test_volumes_that_nobody_names_go_when_asked(rooms: Rooms) -> None:
    storage = await rooms.storages.disks("local")
    for vmid, unreferenced in ((100, False), (101, True)):
        await create(rooms, vmid)
        await storage.allocate_disk(f"{vmid}/vm-{vmid}-disk-7.raw", 1 << 20)
        assert await end(rooms, await destroy_guest(rooms, ROOT, vmid, unreferenced=unreferenced)) == "OK"
    assert await volumes(rooms) == {"local:100/vm-100-disk-7.raw"}


async def test_a_storage_that_is_away_keeps_what_nobody_names(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    await create(rooms)

    async def away(*_args: object) -> None:
        raise HostFailure("storage 'local' is not there")

    monkeypatch.setattr(await rooms.storages.disks("local"), "list", away)
    assert (await end(rooms, await destroy_guest(rooms, ROOT, 100, unreferenced=True))).startswith("WARNINGS")
    assert await rooms.guests.list() == []


async def test_a_vmid_is_one_guest_of_one_kind(rooms: Rooms) -> None:
    await create(rooms)
    with pytest.raises(AlreadyExists, match="VM 100 already exists"):
        await create(rooms)
    with pytest.raises(NotFound, match=r"lxc/100\.conf' does not exist"):
        await rooms.guests.get(100, "lxc")
    with pytest.raises(NotFound, match=r"qemu-server/101\.conf' does not exist"):
        await power.start(rooms, ROOT, 101)


async def test_every_vm_has_a_user_of_its_own(rooms: Rooms) -> None:
    for vmid in (100, 101, 102):
        await create(rooms, vmid)
    assert len({guest.first_id for guest in await rooms.guests.list()}) == 3


async def test_a_start_that_fails_leaves_nothing_of_a_new_vm(rooms: Rooms) -> None:
    engine(rooms).fail_next["start"] = HostFailure("no")
    assert await create(rooms, start=True) == "no"
    assert await rooms.guests.list() == []
    assert await volumes(rooms) == set()
    assert await create(rooms, start=True) == "OK"


@pytest.mark.parametrize(
    ("options", "key", "why"),
    [
        ({"scsi0": "local:0"}, "scsi0", "size 0"),
        ({"scsi0": "nowhere:8"}, None, "does not exist"),
        ({"scsi0": "local:8,format=qed"}, "scsi0", "use"),
        ({"scsi0": "local:101/vm-101-disk-0.raw"}, "scsi0", "does not exist"),
        ({"ide2": "local:iso/none.iso,media=cdrom"}, "ide2", "does not exist"),
        ({"ide2": "none"}, "ide2", "media=cdrom"),
        ({"net0": "virtio,bridge=nowhere"}, "net0", "does not exist"),
        ({"scsi0": "local:0,import-from=local:import/none.qcow2"}, None, "does not exist"),
        ({"scsi0": "local:0,import-from=/nowhere.qcow2"}, "scsi0", "not a file"),
    ],
)
async def test_what_cannot_be_made_is_refused_before_anything_is(
    rooms: Rooms, options: dict[str, str], key: str | None, why: str
) -> None:
    with pytest.raises((InvalidParameter, NotFound), match=why) as caught:
        await create(rooms, **options)
    if key is not None:
        assert isinstance(caught.value, InvalidParameter)
        assert list(caught.value.errors) == [key]
    assert await rooms.guests.list() == []
    assert await volumes(rooms) == set()


async def test_another_vms_disk_is_not_to_be_had(rooms: Rooms) -> None:
    await create(rooms, 101)
    with pytest.raises(InvalidParameter, match="does not belong to VM 100"):
        await create(rooms, 100, scsi0="local:101/vm-101-disk-0.raw")


async def test_an_imported_disk_has_the_images_size(rooms: Rooms, tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    image.write_bytes(b"\x55" * (3 << 20))
    assert await create(rooms, scsi0=f"local:0,import-from={image}") == "OK"
    guest = await rooms.guests.get(100)
    assert guest.config["scsi0"] == "local:100/vm-100-disk-0.raw,size=3M"


async def test_windows_11_gets_uefi_and_a_tpm(rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template = tmp_path / "OVMF_VARS.fd"
    template.write_bytes(bytes(1 << 19))
    monkeypatch.setattr(engine(rooms), "efi_variables", lambda _config: template)
    assert await create(rooms, ostype="win11") == "OK"
    config = (await rooms.guests.get(100)).config
    assert config["bios"] == "ovmf"
    assert "q35" in str(config["machine"])
    assert "pre-enrolled-keys=1" in str(config["efidisk0"])
    assert "version=v2.0" in str(config["tpmstate0"])
    assert "size=4M" in str(config["tpmstate0"])


async def test_efi_variables_are_as_large_as_their_template(rooms: Rooms, tmp_path: Path) -> None:
    template = tmp_path / "OVMF_VARS.fd"
    template.write_bytes(bytes(1 << 19))
    engine(rooms).answers["efi_variables"] = template
    assert await create(rooms, bios="ovmf", efidisk0="local:1,efitype=4m") == "OK"
    volume = str((await rooms.guests.get(100)).config["efidisk0"]).partition(",")[0].partition(":")[2]
    storage = await rooms.storages.disks("local")
    # As a device of whole extents is.
    os.truncate(await storage.disk_path(volume), 4 << 20)
    assert await end(rooms, await power.start(rooms, ROOT, 100)) == "OK"
    disk = engine(rooms).guests[100].plan.disk("efidisk0")
    assert disk is not None
    assert disk.size == 1 << 19


async def test_a_stopped_vm_takes_changes_at_once(rooms: Rooms) -> None:
    await create(rooms)
    config = await change(rooms, cores=4, memory="1024", scsi1="local:2")
    assert (config["cores"], config["memory"]) == (4, "1024")
    assert config["scsi1"] == "local:100/vm-100-disk-1.raw,size=2G"
    assert (await rooms.guests.get(100)).pending == {}


async def test_a_running_vm_takes_what_it_can_and_the_rest_waits(rooms: Rooms) -> None:
    await create(rooms, start=True)
    await change(rooms, net1="virtio,bridge=vmbr0", scsi1="local:1", cores=4, description="x", ide0="local:1")
    guest = await rooms.guests.get(100)
    assert {"net1", "scsi1", "description"} <= guest.config.keys()
    assert set(guest.pending) == {"cores", "ide0"}
    assert {"add_interface", "add_disk"} <= set(told(rooms))
    assert await end(rooms, await power.reboot(rooms, ROOT, 100)) == "OK"
    guest = await rooms.guests.get(100)
    assert guest.config["cores"] == 4
    assert guest.pending == {}


async def test_what_was_made_for_a_change_that_is_reverted_is_kept_unless_it_is_made_anew_anyway(rooms: Rooms) -> None:
    await create(rooms, start=True)
    await change(rooms, ide0="local:1", ide2="local:cloudinit")
    assert set((await rooms.guests.get(100)).pending) == {"ide0", "ide2"}
    await configure.update_config(rooms, ROOT, 100, VmOptions(), revert=["ide0", "ide2"])
    guest = await rooms.guests.get(100)
    assert (guest.pending, guest.config["unused0"]) == ({}, "local:100/vm-100-disk-1.raw")
    assert await volumes(rooms) == {"local:100/vm-100-disk-0.raw", "local:100/vm-100-disk-1.raw"}


async def test_a_change_that_fails_changes_nothing(rooms: Rooms) -> None:
    await create(rooms, start=True)
    before = await rooms.guests.get(100)
    engine(rooms).fail_next["add_disk"] = HostFailure("no")
    with pytest.raises(HostFailure):
        await change(rooms, net1="virtio,bridge=vmbr0", scsi1="local:1")
    assert await rooms.guests.get(100) == before
    assert await volumes(rooms) == {"local:100/vm-100-disk-0.raw"}
    assert told(rooms)[-1] == "remove_interface"


async def test_what_an_engine_cannot_do_while_the_vm_runs_waits(rooms: Rooms) -> None:
    await create(rooms, start=True)
    engine(rooms).fail_next["add_disk"] = NotSupported("not on this bus")
    await change(rooms, scsi1="local:1")
    assert list((await rooms.guests.get(100)).pending) == ["scsi1"]


async def test_a_device_that_the_guest_keeps_goes_at_the_next_start(rooms: Rooms) -> None:
    await create(rooms, start=True)
    engine(rooms).fail_next["remove_interface"] = DeadlineExceeded("it does not let go")
    await change(rooms, delete=("net0",), description="done")
    guest = await rooms.guests.get(100)
    assert (guest.removed, guest.config["description"]) == (("net0",), "done")
    assert await end(rooms, await power.reboot(rooms, ROOT, 100)) == "OK"
    assert "net0" not in (await rooms.guests.get(100)).config


async def test_only_the_hosts_side_of_a_card_changes_without_unplugging_it(rooms: Rooms) -> None:
    await create(rooms, start=True)
    address = str((await rooms.guests.get(100)).config["net0"]).partition("=")[2].partition(",")[0]
    await change(rooms, net0=f"virtio={address},bridge=vmbr0,rate=5,link_down=1")
    assert told(rooms) == ["set_link"]
    await change(rooms, net0=f"e1000={address},bridge=vmbr0")
    assert told(rooms)[1:] == ["remove_interface", "add_interface"]


async def test_a_detached_disk_is_kept_until_it_is_removed(rooms: Rooms) -> None:
    await create(rooms)
    config = await change(rooms, delete=("scsi0",))
    assert config["unused0"] == "local:100/vm-100-disk-0.raw"
    assert "scsi0" not in config
    config = await change(rooms, virtio0="local:100/vm-100-disk-0.raw")
    assert "unused0" not in config
    await disks.unlink(rooms, ROOT, 100, ["virtio0"])
    await disks.unlink(rooms, ROOT, 100, ["unused0"])
    assert await volumes(rooms) == set()


async def test_a_disk_keeps_its_size_when_its_options_are_set_without_it(rooms: Rooms, tmp_path: Path) -> None:
    await create(rooms, scsi1="local:2,format=qcow2")
    config = await change(rooms, scsi1="local:100/vm-100-disk-1.qcow2,backup=0")
    assert config["scsi1"] == "local:100/vm-100-disk-1.qcow2,size=2G,backup=0"
    config = await change(rooms, scsi0="local:100/vm-100-disk-0.raw,size=7T")
    assert config["scsi0"] == "local:100/vm-100-disk-0.raw,size=1G"


async def test_unlinking_by_force_removes_the_volume(rooms: Rooms) -> None:
    await create(rooms)
    await disks.unlink(rooms, ROOT, 100, ["scsi0"], force=True)
    assert await volumes(rooms) == set()
    assert "unused0" not in (await rooms.guests.get(100)).config


async def test_media_change_while_the_vm_runs(rooms: Rooms) -> None:
    folder = rooms.layout.local_storage / "template/iso"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.iso").write_bytes(bytes(4096))
    await create(rooms, start=True, ide2="none,media=cdrom")
    config = await change(rooms, ide2="local:iso/a.iso,media=cdrom")
    assert config["ide2"] == "local:iso/a.iso,size=4K,media=cdrom"
    assert told(rooms) == ["change_medium"]
    assert await end(rooms, await power.stop(rooms, ROOT, 100)) == "OK"
    assert await end(rooms, await destroy_guest(rooms, ROOT, 100)) == "OK"
    assert (folder / "a.iso").exists(), "an ISO image is nobody's own"


async def test_the_record_must_be_the_one_that_was_read(rooms: Rooms) -> None:
    await create(rooms)
    with pytest.raises(Conflict, match="detected modified configuration"):
        await configure.update_config(rooms, ROOT, 100, VmOptions.parse({"cores": 2}), digest="0" * 40)


async def test_a_password_is_stored_and_shown_as_no_password(rooms: Rooms) -> None:
    await create(rooms, cipassword="tell-nobody")
    guest = await rooms.guests.get(100)
    assert str(guest.config["cipassword"]).startswith("$6$")
    assert configure.shown_config(guest)["cipassword"] == "**********"
    assert {row["key"]: row["value"] for row in pending_rows(guest)}["cipassword"] == "**********"
    assert {row["key"]: row["value"] for row in await cloudinit.rows(rooms, 100)}["cipassword"] == "**********"


async def test_resize_grows_a_stopped_vms_file_and_a_running_vms_disk(rooms: Rooms) -> None:
    await create(rooms)
    assert await end(rooms, await disks.resize_disk(rooms, ROOT, 100, "scsi0", "+1G")) == "OK"
    assert (await rooms.guests.get(100)).config["scsi0"] == "local:100/vm-100-disk-0.raw,size=2G"
    with pytest.raises(InvalidParameter, match="unable to shrink"):
        await disks.resize_disk(rooms, ROOT, 100, "scsi0", "1G")
    with pytest.raises(InvalidParameter, match="has no disk 'scsi7'"):
        await disks.resize_disk(rooms, ROOT, 100, "scsi7", "9G")
    assert await end(rooms, await power.start(rooms, ROOT, 100)) == "OK"
    assert await end(rooms, await disks.resize_disk(rooms, ROOT, 100, "scsi0", "4G")) == "OK"
    assert engine(rooms).told == [("resize_disk", 100, "scsi0", 4 << 30)]


async def test_a_disk_moves_to_another_format_and_to_another_vm(rooms: Rooms) -> None:
    await create(rooms)
    await create(rooms, 101)
    before = await volumes(rooms)
    move = await move_disk(rooms, ROOT, 100, Move("scsi0", form="qcow2", delete=True))
    assert await end(rooms, move) == "OK"
    assert (await rooms.guests.get(100)).config["scsi0"] == "local:100/vm-100-disk-1.qcow2,size=1G"
    assert await volumes(rooms) == before - {"local:100/vm-100-disk-0.raw"} | {"local:100/vm-100-disk-1.qcow2"}
    move = await move_disk(rooms, ROOT, 100, Move("scsi0", target_vmid=101, target_key="scsi1"))
    assert await end(rooms, move) == "OK"
    assert "scsi0" not in (await rooms.guests.get(100)).config
    assert (await rooms.guests.get(101)).config["scsi1"] == "local:101/vm-101-disk-1.qcow2,size=1G"
    await create(rooms, 102)
    with pytest.raises(InvalidParameter, match="cannot take a disk as 'scsi0'"):
        await move_disk(rooms, ROOT, 101, Move("scsi1", target_vmid=102, target_key="scsi0"))


async def test_a_guest_that_halts_by_itself_is_tidied_up(rooms: Rooms) -> None:
    await create(rooms, start=True)
    await change(rooms, cores=2)
    watch = asyncio.create_task(watch_stops(rooms))
    try:
        await rooms.vms.stop(100)
        async with asyncio.timeout(10):
            while (await rooms.guests.get(100)).pending:
                await asyncio.sleep(0.05)
    finally:
        watch.cancel()
    assert (await rooms.guests.get(100)).config["cores"] == 2


async def test_a_guest_that_does_not_halt_is_stopped_only_by_force(rooms: Rooms) -> None:
    await create(rooms, start=True)
    engine(rooms).fail_next["shutdown"] = DeadlineExceeded("")
    assert "did not shut down" in await end(rooms, await power.shutdown(rooms, ROOT, 100, timeout=1))
    assert rooms.vms.state(100) is GuestState.RUNNING
    engine(rooms).fail_next["shutdown"] = DeadlineExceeded("")
    forced = await power.shutdown(rooms, ROOT, 100, timeout=1, force_stop=True)
    assert await end(rooms, forced) == "WARNINGS: 1"
    assert rooms.vms.state(100) is GuestState.STOPPED


async def test_what_an_interrupted_creation_left_is_removed(rooms: Rooms) -> None:
    await create(rooms)
    guest = await rooms.guests.get(100)
    await rooms.guests.update(replace(guest, config={**guest.config, "lock": "create"}))
    with pytest.raises(Locked):
        await change(rooms, cores=2)
    await recover(rooms)
    assert await rooms.guests.list() == []
    assert await volumes(rooms) == set()


async def test_a_vm_that_ran_when_its_start_was_interrupted_is_connected(rooms: Rooms) -> None:
    await create(rooms, start=True)
    network = cast(FakeNetwork, rooms.network)
    there = dict(network.ends)
    assert there
    network.ends.clear()
    await recover(rooms)
    assert network.ends == {}, "nobody had begun anything"
    dead = rooms.locks.hold(100, "dead", "start")  # kept: what is collected gives the lock back
    await dead.__aenter__()
    await recover(rooms)
    assert network.ends == there


async def test_volumes_of_an_interrupted_change_are_removed(rooms: Rooms) -> None:
    await create(rooms)
    storage = await rooms.storages.disks("local")
    await storage.allocate_disk("100/vm-100-disk-5.raw", 1 << 20)
    task = asyncio.Event()

    async def hold() -> None:
        async with rooms.locks.hold(100, "dead", "config") as held:
            await held.record("local:100/vm-100-disk-5.raw")
            await held.record("local:100/vm-100-disk-0.raw")
            task.set()
            await asyncio.sleep(60)

    holder = asyncio.create_task(hold())
    await task.wait()
    await recover(rooms)
    holder.cancel()
    assert await volumes(rooms) == {"local:100/vm-100-disk-0.raw"}


async def test_cloud_init_reads_the_options_or_the_texts(rooms: Rooms) -> None:
    await create(
        rooms, ide2="local:cloudinit", ciuser="me", sshkeys="ssh-ed25519%20AAAA%20a%40b", ipconfig0="ip=10.77.0.9/24"
    )
    user = yaml.safe_load(await cloudinit.dump(rooms, 100, "user"))
    assert (user["user"], user["ssh_authorized_keys"]) == ("me", ["ssh-ed25519 AAAA a@b"])
    network = yaml.safe_load(await cloudinit.dump(rooms, 100, "network"))
    assert network["config"][0]["subnets"] == [{"type": "static", "address": "10.77.0.9/24"}]
    assert network["config"][1]["address"] == ["10.77.0.1"], "the managed bridge answers names"
    before = (await (await rooms.storages.disks("local")).disk_path("100/vm-100-cloudinit.raw")).read_bytes()
    await cloudinit.set_data(rooms, 100, CloudInit(user="#!/bin/sh\necho\n"))
    assert await cloudinit.dump(rooms, 100, "user") == "#!/bin/sh\necho\n"
    await cloudinit.regenerate(rooms, ROOT, 100)
    after = (await (await rooms.storages.disks("local")).disk_path("100/vm-100-cloudinit.raw")).read_bytes()
    assert before != after
    assert b"#!/bin/sh\necho\n" in after
    await end(rooms, await destroy_guest(rooms, ROOT, 100))
    assert await cloudinit.get_data(rooms, 100) == CloudInit()


async def test_a_vm_without_an_agent_says_so(rooms: Rooms) -> None:
    await create(rooms)
    with pytest.raises(WrongState, match="is not running"):
        await agent.ask(rooms, 100, "guest-ping")
    await end(rooms, await power.start(rooms, ROOT, 100))
    with pytest.raises(WrongState, match="No QEMU guest agent configured"):
        await agent.ask(rooms, 100, "guest-ping")


async def test_a_freeze_ends_by_itself(rooms: Rooms) -> None:
    await create(rooms, start=True, agent="1")
    engine(rooms).answers = {"guest-fsfreeze-freeze": 2, "guest-fsfreeze-thaw": 2}
    assert await agent.freeze(rooms, 100, deadline=0.1) == 2
    assert await rooms.store.get("frozen/100") is not None
    async with asyncio.timeout(5):
        while await rooms.store.get("frozen/100") is not None:
            await asyncio.sleep(0.02)
    assert [entry[2] for entry in engine(rooms).told if entry[0] == "ask"][-1] == "guest-fsfreeze-thaw"


async def test_a_daemon_thaws_what_a_dead_one_froze(rooms: Rooms) -> None:
    await create(rooms, start=True, agent="1")
    engine(rooms).answers = {"guest-fsfreeze-thaw": 0}
    await rooms.store.put("frozen/100", "", 0)
    await agent.thaw_forgotten(rooms)
    async with asyncio.timeout(5):
        while await rooms.store.get("frozen/100") is not None:
            await asyncio.sleep(0.02)


async def test_status_tells_how_the_vm_runs(rooms: Rooms) -> None:
    await create(rooms, start=True)
    status = await inspect.vm_status(rooms, 100)
    assert (status["status"], status["qmpstatus"], status["accelerator"]) == ("running", "running", "tcg")
    assert "without KVM" in status["warning"]
    engine(rooms).set_status(100, state="io-error", error="no space")
    status = await inspect.vm_status(rooms, 100)
    assert (status["qmpstatus"], status["error"]) == ("io-error", "no space")
    assert await end(rooms, await power.resume(rooms, ROOT, 100)) == "OK"


async def test_the_machine_is_pinned_when_the_vm_is_made(rooms: Rooms) -> None:
    await create(rooms, machine="q35")
    first = (await rooms.guests.get(100)).config["machine"]
    assert str(first).startswith("pc-q35-")
    await end(rooms, await power.start(rooms, ROOT, 100))
    assert engine(rooms).guests[100].plan.machine == first


def test_volume_ids_of_disks_parse() -> None:
    assert VolumeId.parse("local:100/vm-100-cloudinit.raw").name == "100/vm-100-cloudinit.raw"
