"""`launch` tells early what is wrong, makes what is missing, and leaves nothing behind when it fails."""

import pytest

VOLUME = "local:vztmpl/debian-12.tar.zst"
INTERFACES = [
    {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1"}]},
    {
        "name": "eth0",
        "ip-addresses": [{"ip-address": "fe80::1"}, {"ip-address": "fd00::5"}, {"ip-address": "10.1.0.5"}],
    },
]


@pytest.fixture
def host(daemon):
    daemon.on("GET", "/bastide/images", [{"name": "debian-12", "volid": VOLUME}])
    daemon.on("GET", "/cluster/nextid", "100")
    daemon.on("GET", "/nodes/pve1/lxc/100/status/current", {"status": "running"})
    daemon.on("GET", "/nodes/pve1/lxc/100/interfaces", INTERFACES)
    daemon.task("POST", "/nodes/pve1/lxc")
    daemon.task("POST", "/nodes/pve1/lxc/100/status/start")
    return daemon


def test_launch_prints_id_name_and_address(run, host):
    ended = run("launch", "debian-12", "web")
    assert (ended.code, ended.out) == (0, "100  web  10.1.0.5\n")
    assert host.posted("POST", "/nodes/pve1/lxc") == {
        "vmid": "100",
        "hostname": "web",
        "ostemplate": VOLUME,
        "memory": "1024",
        "rootfs": "local:8",
        "unprivileged": "1",
        "features": "nesting=1",
        "net0": "name=eth0,bridge=vmbr0,ip=dhcp,ip6=auto",
    }
    assert run("launch", "debian-12", "web", "--json").json == {
        "vmid": 100,
        "name": "web",
        "status": "running",
        "addresses": ["10.1.0.5", "fd00::5"],
    }


def test_every_option_reaches_the_api(run, host, tmp_path):
    key = tmp_path / "key.pub"
    key.write_text("ssh-ed25519 AAAA me\n")
    ended = run(
        *["launch", "debian-12", "web", "--cores", "2", "--memory", "512M", "--disk", "1536M"],
        *["--storage", "fast", "--bridge", "br0", "--ip", "10.0.0.2/24"],
        *f"--gw 10.0.0.1 --ssh-key {key} --password-stdin --privileged --no-nesting --tag a --tag b".split(),
        *["--onboot", "--vmid", "100", "--no-start", "--set", "swap=0", "--set", "timezone=host"],
        text="geheim\n",
    )
    assert (ended.code, ended.out) == (0, "100  web\n")
    assert host.posted("POST", "/nodes/pve1/lxc") == {
        "vmid": "100", "hostname": "web", "ostemplate": VOLUME, "cores": "2", "memory": "512", "rootfs": "fast:1.5",
        "unprivileged": "0", "onboot": "1", "tags": "a;b", "ssh-public-keys": "ssh-ed25519 AAAA me",
        "password": "geheim", "net0": "name=eth0,bridge=br0,ip=10.0.0.2/24,gw=10.0.0.1", "swap": "0",
        "timezone": "host",
    }  # fmt: skip
    assert not host.made("POST", "/nodes/pve1/lxc/100/status/start")


def test_a_missing_image_is_built_first(run, host):
    rows = []
    host.on("GET", "/bastide/images", lambda _: rows)

    def build(params):
        rows.append({"name": params["name"], "volid": VOLUME})
        return upid

    upid = host.task("POST", "/bastide/images/build")
    host.on("POST", "/bastide/images/build", build)
    assert run("launch", "debian-12", "web").code == 0
    assert host.posted("POST", "/bastide/images/build") == {"name": "debian-12", "storage": "local"}


@pytest.mark.parametrize("image", ["https://images.example/a.tar.xz", "alpine/3.20"])
def test_what_cannot_be_built_is_pulled(run, host, refusal, image):
    rows = []
    host.on("GET", "/bastide/images", lambda _: rows)
    host.on("POST", "/bastide/images/build", refusal(400, "Parameter verification failed.", {"name": "is not known"}))
    upid = host.task("POST", "/bastide/images/pull")
    host.on("POST", "/bastide/images/pull", lambda p: rows.append({"source": p["source"], "volid": VOLUME}) or upid)
    assert run("launch", image, "web").code == 0
    assert host.posted("POST", "/bastide/images/pull")["source"] == image


def test_a_taken_name_is_refused_before_anything_is_built(run, host):
    host.guest(105, "web")
    host.on("GET", "/bastide/images", [])
    ended = run("launch", "debian-12", "web")
    assert ended.code == 6
    assert "already exists" in ended.err
    assert not any(method == "POST" for method, _, _ in host.calls)


@pytest.mark.parametrize("name", ["123", "-web", "we b", "../x", "", "a" * 300, "web_1"])
def test_a_bad_name_is_refused_before_anything_is_asked(run, host, name):
    assert run("launch", "debian-12", "--", name).code == 2
    assert host.calls == []


@pytest.mark.parametrize(
    "option", [["--memory", "much"], ["--disk", "0"], ["--ssh-key", "/nonexistent"], ["--set", "x"]]
)
def test_bad_options_make_nothing(run, host, option):
    assert run("launch", "debian-12", "web", *option).code == 2
    assert not any(method == "POST" for method, _, _ in host.calls)


def test_a_private_key_is_never_sent(run, host, tmp_path):
    key = tmp_path / "id"
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    ended = run("launch", "debian-12", "web", "--ssh-key", str(key))
    assert ended.code == 2
    assert "private key" in ended.err


def test_a_failed_start_removes_the_guest_and_tells_why(run, host):
    host.task("POST", "/nodes/pve1/lxc/100/status/start", end="bridge 'vmbr9' does not exist")
    host.task("DELETE", "/nodes/pve1/lxc/100")

    def create(_):
        host.guest(100, "web")
        return upid

    upid = host.task("POST", "/nodes/pve1/lxc")
    host.on("POST", "/nodes/pve1/lxc", create)
    ended = run("launch", "debian-12", "web")
    assert ended.code == 3
    assert "bridge 'vmbr9' does not exist" in ended.err
    assert host.made("DELETE", "/nodes/pve1/lxc/100")


def test_an_id_that_another_launch_took_is_not_the_users_trouble(run, host, refusal):
    ids = iter(["100", "101"])
    created = host.answers["POST", "/nodes/pve1/lxc"]
    host.on("GET", "/cluster/nextid", lambda _: next(ids))
    host.on(
        "POST",
        "/nodes/pve1/lxc",
        lambda p: refusal(500, "CT 100 already exists on node 'pve1'") if p["vmid"] == "100" else created,
    )
    assert run("launch", "debian-12", "web", "--no-start").out == "101  web\n"


def test_without_a_daemon_one_is_started(run, root):
    class Host:
        asked = 0

        def up(self, _layout, _request):
            self.asked += 1

    host = Host()
    assert run("launch", "debian-12", "web", host=host).code == 5  # this one starts none, so none answers
    assert host.asked == 1


def test_an_image_is_found_by_what_the_daemon_takes_its_name_for(run, host):
    host.on("GET", "/bastide/images", lambda p: [{"volid": VOLUME}] if p.get("name") == "debian/bookworm" else [])
    assert run("launch", "debian/bookworm", "web").code == 0
    assert host.posted("POST", "/nodes/pve1/lxc")["ostemplate"] == VOLUME


@pytest.mark.parametrize(
    ("ip", "gateway"), [("10.5.0.9/24", ",gw=10.5.0.1"), ("10.6.0.9/24", ""), ("10.5.0.9/16", ""), ("nonsense/24", "")]
)
def test_a_fixed_address_on_the_nat_bridge_gets_its_gateway(run, host, ip, gateway):
    host.on("GET", "/nodes/pve1/network/vmbr0", {"iface": "vmbr0", "address": "10.5.0.1", "netmask": "24"})
    assert run("launch", "debian-12", "web", "--ip", ip).code == 0
    assert host.posted("POST", "/nodes/pve1/lxc")["net0"] == f"name=eth0,bridge=vmbr0,ip={ip}{gateway}"
