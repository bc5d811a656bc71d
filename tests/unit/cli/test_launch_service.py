"""`launch` by a service's name: kind, size and settings by the architect, then the recipe; or what is missing."""

from typing import Any

import pytest

from bastide.architect.advice import advise
from bastide.base.errors import InvalidParameter
from bastide.model.advice import HostFacts
from bastide.model.catalog import CatalogEntry
from bastide.model.service import Service

CT_IMAGE, VM_IMAGE = "local:vztmpl/debian-12.tar.zst", "local:import/debian-12.qcow2"
FACTS = HostFacts(node="pve1", images={"ct/debian-12": CT_IMAGE, "vm/debian-12": VM_IMAGE})
EXTENT = {"cores": 1, "memory": "256M", "disk": "4G"}
PROBE = {"type": "http", "port": 80}


def entry(name: str, **values: Any) -> CatalogEntry:
    usual = {"cores": 1, "memory": "384M", "disk": "4G"}
    return CatalogEntry.model_validate(
        {
            "name": name, "title": name.capitalize(), "summary": "What it is", "category": "web", "source": "ours",
            "size": {"minimum": EXTENT, "usual": usual}, "upstream": f"https://{name}.example", **values,
        }
    )  # fmt: skip


ENTRIES = {
    one.name: one
    for one in (
        entry("nginx", aliases=["engine-x"], ports=[{"port": 443}, {"port": 80}], recipe={"probe": PROBE},
              notes=["Sites are in /srv."]),
        entry("memcached", ports=[{"port": 11211}], category="cache",
              recipe={"probe": {"type": "tcp", "port": 11211}}),
        entry("jellyfin", category="media"),
        entry("opnsense", needs={"os": "opnsense"}, category="firewall"),
        entry("docker", needs={"engine": "docker"}, category="containers", recipe={"probe": PROBE}),
    )
}  # fmt: skip


@pytest.fixture
def host(daemon, refusal):
    """A daemon with the real architect over a catalog of five."""

    def ask(params: dict[str, Any]) -> Any:
        service = {key: value for key, value in params.items() if key != "catalog"}
        try:
            return advise(Service.parse(service), ENTRIES.get(params["service"]), FACTS).model_dump(mode="json")
        except InvalidParameter as error:
            raise refusal(400, "Parameter verification failed.", error.errors) from None

    daemon.on("POST", "/architect/advise", ask)
    for one in ENTRIES.values():
        for name in (one.name, *one.aliases):
            daemon.on("GET", f"/architect/catalog/{name}", one.model_dump(mode="json", exclude_none=True))
    daemon.on("GET", "/bastide/images/buildable", lambda p: [] if p.get("name") else [{"name": "debian-12"}])
    images = [{"name": "debian-12", "volid": CT_IMAGE}, {"name": "debian-12", "volid": VM_IMAGE}]
    known = {(CT_IMAGE, "lxc"): images[:1], (VM_IMAGE, "qemu"): images[1:], (VM_IMAGE, None): images[1:]}
    daemon.on("GET", "/bastide/images", lambda p: known.get((p["name"], p.get("type")), []) if "name" in p else images)
    daemon.on("GET", "/cluster/nextid", "100")
    daemon.on("GET", "/nodes/pve1/status", {"cpuinfo": {"cpus": 4}})
    daemon.on("GET", "/nodes/pve1/capabilities/qemu/cpu", [])
    for kind in ("lxc", "qemu"):
        daemon.on("GET", f"/nodes/pve1/{kind}/100/status/current", {"status": "running"})
        daemon.task("POST", f"/nodes/pve1/{kind}")
        daemon.task("POST", f"/nodes/pve1/{kind}/100/status/start")
    interfaces = [{"name": "eth0", "ip-addresses": [{"ip-address": "10.1.0.5"}]}]
    daemon.on("GET", "/nodes/pve1/lxc/100/interfaces", interfaces)
    daemon.on("GET", "/nodes/pve1/qemu/100/agent/network-get-interfaces", {"result": interfaces})
    daemon.on("GET", "/nodes/pve1/qemu/100/config", {"scsi0": "local:100/disk.qcow2,size=4G"})
    daemon.task("POST", "/architect/install")
    return daemon


def test_a_service_is_made_as_advised_and_installed(run, host):
    ended = run("launch", "nginx")
    assert (ended.code, ended.out) == (0, "100  nginx  10.1.0.5  http://10.1.0.5\n")
    assert ended.err.startswith("nginx: container, because it is a Linux service")
    assert "Sites are in /srv." in ended.err
    assert host.posted("POST", "/nodes/pve1/lxc") == {
        "vmid": "100", "hostname": "nginx", "ostemplate": CT_IMAGE, "cores": "1", "memory": "384",
        "rootfs": "local:4", "unprivileged": "1", "features": "nesting=1", "swap": "512", "onboot": "1",
        "tags": "nginx", "net0": "name=eth0,bridge=vmbr0,firewall=1,ip=dhcp,ip6=auto",
    }  # fmt: skip
    assert host.posted("POST", "/architect/install") == {"guest": "100", "service": "nginx"}


def test_json_tells_where_it_answers(run, host):
    assert run("launch", "memcached", "cache1", "--json").json == {
        "vmid": 100, "name": "cache1", "status": "running", "addresses": ["10.1.0.5"], "kind": "ct",
        "service": "memcached", "installed": True, "answers": ["11211/tcp"],
    }  # fmt: skip


def test_what_is_said_on_the_command_line_wins(run, host, tmp_path):
    run(
        *["launch", "nginx", "web", "--memory", "1G", "--disk", "6G", "--cores", "3", "--storage", "fast"],
        *["--bridge", "br0", "--no-nesting", "--tag", "mine", "--set", "swap=0", "--privileged"],
        *["--catalog", str(tmp_path)],
    )
    assert host.posted("POST", "/nodes/pve1/lxc") == {
        "vmid": "100", "hostname": "web", "ostemplate": CT_IMAGE, "cores": "3", "memory": "1024",
        "rootfs": "fast:6", "unprivileged": "0", "swap": "0", "onboot": "1", "tags": "nginx;mine",
        "net0": "name=eth0,bridge=br0,ip=dhcp,ip6=auto",
    }  # fmt: skip
    asked = {"service": "nginx", "name": "web", "memory": "1G", "disk": "6G", "cores": "3", "catalog": str(tmp_path)}
    assert host.posted("POST", "/architect/advise") == asked
    assert host.posted("POST", "/architect/install")["catalog"] == str(tmp_path)


def test_a_vm_that_is_overruled_is_warned_of(run, host):
    ended = run("launch", "docker", "--ct")
    assert "the rules say VM" in ended.err
    assert "warning: vm-engine: A container engine runs images of others" in ended.err
    assert host.posted("POST", "/nodes/pve1/lxc")["features"] == "nesting=1,keyctl=1"
    assert run("launch", "docker", "--ct", "--vm").code == 2


def test_a_service_that_should_be_a_vm_is_one(run, host):
    ended = run("launch", "docker")
    assert ended.out == "100  docker  10.1.0.5\n"
    made = host.posted("POST", "/nodes/pve1/qemu")
    assert made["scsi0"] == f"local:0,import-from={VM_IMAGE},iothread=1,discard=on"
    assert (made["memory"], made["machine"], made["cpu"]) == ("512", "q35", "host")
    assert made["ide2"] == "local:cloudinit"
    assert made["net0"] == "virtio,bridge=vmbr0,firewall=1"


def test_the_next_free_name_is_taken_and_a_given_one_that_is_taken_is_refused(run, host):
    host.on("GET", "/bastide/guests", [{"name": "nginx"}, {"name": "nginx-2"}])
    assert run("launch", "nginx", "--no-start").out == "100  nginx-3\n"
    host.guest(105, "nginx")
    assert run("launch", "nginx", "nginx").code == 6


def test_without_a_start_nothing_is_installed_and_how_to_is_told(run, host):
    ended = run("launch", "nginx", "--no-start")
    assert not host.made("POST", "/architect/install")
    assert "bastide api create /architect/install guest=100 service=nginx --wait" in ended.err


def test_without_a_recipe_the_guest_is_made_and_upstream_is_named(run, host):
    ended = run("launch", "jellyfin")
    assert ended.out == "100  jellyfin  10.1.0.5\n"
    assert "no recipe for Jellyfin: install it as its makers say: https://jellyfin.example" in ended.err
    assert not host.made("POST", "/architect/install")


def test_a_system_with_an_installer_makes_nothing_and_tells_the_command(run, host):
    ended = run("launch", "opnsense", "wall")
    assert ended.code == 3
    assert "bastide launch --iso ISO --name wall" in ended.err
    assert "https://opnsense.example" in ended.err
    assert not host.made("POST", "/nodes/pve1/qemu")


def test_a_cd_that_is_called_as_the_system_is_its_installer(run, host, monkeypatch):
    cd = "local:iso/opnsense.iso"
    monkeypatch.setitem(FACTS.images, "iso/opnsense", cd)
    ended = run("launch", "opnsense")
    assert (ended.code, ended.out) == (0, "100  opnsense\n")
    made = host.posted("POST", "/nodes/pve1/qemu")
    assert (made["ide2"], made["ostype"], made["sata0"]) == (f"{cd},media=cdrom", "other", "local:4,discard=on")
    assert "scsi0" not in made


@pytest.mark.parametrize("keep", [False, True])
def test_a_guest_whose_install_fails_is_removed_unless_it_is_to_be_kept(run, host, keep):
    upid = host.task("POST", "/architect/install", end="the probe was not answered")
    host.task("DELETE", "/nodes/pve1/lxc/100")
    create = host.answers["POST", "/nodes/pve1/lxc"]
    host.on("POST", "/nodes/pve1/lxc", lambda _: host.guest(100, "nginx", "running") or create)
    ended = run("launch", "nginx", *["--keep"] * keep)
    assert ended.code == 1
    assert "the probe was not answered" in ended.err
    assert f"bastide task log '{upid}'" in ended.err
    assert host.made("DELETE", "/nodes/pve1/lxc/100") is not keep
    assert ("to try again: bastide api create /architect/install guest=100 service=nginx --wait" in ended.err) is keep


def test_a_misspelling_is_told(run, host):
    host.on("GET", "/architect/catalog/ngnix", ENTRIES["nginx"].model_dump(mode="json", exclude_none=True))
    assert "'ngnix' is taken as nginx: Nginx" in run("launch", "ngnix", "--no-start").err
    assert "taken as" not in run("launch", "Engine-X".lower(), "--no-start").err


def test_images_win_over_services(run, host):
    host.on("GET", "/bastide/images", lambda p: [{"name": "nginx", "volid": CT_IMAGE}])
    assert run("launch", "nginx").code == 2  # an image needs a name for its guest
    assert run("launch", "nginx", "web").code == 0
    assert not host.made("POST", "/architect/advise")
    assert "memory" in host.posted("POST", "/nodes/pve1/lxc")


@pytest.mark.parametrize("name", [[], ["web"]])
def test_neither_image_nor_service_tells_what_is_near_to_it_of_both(run, host, refusal, name):
    host.on("GET", "/architect/catalog/debian12", refusal(500, "no such service 'debian12'; did you mean x?"))
    host.on("POST", "/bastide/images/build", refusal(400, "", {"name": "'debian12' cannot be built"}))
    host.on("POST", "/bastide/images/pull", refusal(500, "no such image 'debian12'"))
    ended = run("launch", "debian12", *name)
    assert ended.code == 3
    assert "did you mean x?" in ended.err
    assert "did you mean debian-12?" in ended.err


@pytest.mark.parametrize("option", [["--memory", "much"], ["--disk", "0"], ["--set", "x"], ["--tpm"]])
def test_bad_options_are_told_before_anything_is_asked(run, host, option):
    assert run("launch", "nginx", *option).code == 2
    assert host.calls == []


def test_a_size_below_the_least_is_refused(run, host):
    ended = run("launch", "nginx", "--memory", "16M")
    assert ended.code == 2
    assert "16M is below the least" in ended.err
    assert not host.made("POST", "/nodes/pve1/lxc")


def test_a_password_is_read_once(run, host):
    assert run("launch", "jellyfin", "--password-stdin", text="geheim\nother\n").code == 0
    assert host.posted("POST", "/nodes/pve1/lxc")["password"] == "geheim"
