"""The architect on a real host: what it advises, and services that are launched by their name and answer."""

import json
import socket
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from framework.host import Host

pytestmark = pytest.mark.system


def _api(host: Host, service: dict[str, Any]) -> Any:
    answer = host.http.post("/architect/advise", json=service)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_a_service_of_the_catalog_is_advised_on_and_the_command_line_says_what_the_api_says(host: Host) -> None:
    advice = host.cli_json("advise", "pihole")
    assert (advice["kind"], advice["service"]) == ("ct", "pihole")
    assert advice == _api(host, {"service": "pihole"})
    assert advice["request"]["path"] == f"/nodes/{host.node}/lxc"
    text = host.cli("advise", "pihole").stdout
    assert text.startswith("pihole (Pi-hole): a container")
    assert "ct-default" in text


def test_a_system_that_is_not_linux_is_a_vm_with_what_it_needs(host: Host) -> None:
    advice = host.cli_json("advise", "--os", "windows-server-2022", "--name", "dc1")
    assert (advice["kind"], advice["confidence"], advice["name"]) == ("vm", "certain", "dc1")
    assert [rule["id"] for rule in advice["rules"]] == ["vm-os"]
    assert advice["settings"]["bios"] == "ovmf"
    assert host.bridge in advice["settings"]["net0"]
    assert "--iso" in advice["command"]


def test_a_faulty_file_names_its_line(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("name: blog\n\nservice: wordpress\nmemory: 12\n")
    done = host.cli("advise", "-f", str(file), check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {file}: line 4: memory: say the unit: 12M or 12G\n"
    file.write_text("name: blog\n\nservice: no-such-thing-at-all\n")
    done = host.cli("advise", "-f", str(file), check=False)
    assert done.returncode == 3
    assert f"{file}: line 3: service: no such service" in done.stderr


def test_an_interview_through_a_pipe_ends_in_an_advice(host: Host) -> None:
    done = host.cli("advise", "--json", input="mosquitto\nuntrusted\n")
    assert "What do you want to run?" in done.stderr
    advice = json.loads(done.stdout)
    assert (advice["service"], advice["kind"]) == ("mosquitto", "vm")


def test_a_folder_of_ones_own_adds_to_the_catalog(host: Host, tmp_path: Path) -> None:
    size = "{cores: 1, memory: 128M, disk: 2G}"
    (tmp_path / "intern.yaml").write_text(
        "name: intern\ntitle: Our own\nsummary: It is ours\ncategory: web\nsource: us\n"
        f"size: {{minimum: {size}, usual: {size}}}\nneeds: {{tenants: untrusted}}\n"
    )
    assert host.cli_json("advise", "intern", "--catalog", str(tmp_path))["kind"] == "vm"
    assert host.cli("advise", "intern", check=False).returncode == 3


def test_a_launched_service_answers_from_the_host(host: Host) -> None:
    host.template()
    with ThreadPoolExecutor() as pool:  # most of it is waiting for packages
        launching = pool.submit(host.cli_json, "launch", "memcached", "cache1", "--memory", "512M")
        done = host.cli("launch", "nginx", "--json")
        second = launching.result()
    made = json.loads(done.stdout)
    assert (made["name"], made["kind"], made["installed"]) == ("nginx", "ct", True)
    assert done.stderr.startswith("nginx: container, because ")
    with urllib.request.urlopen(made["answers"][0], timeout=10) as answer:
        assert b"nginx" in answer.read()
    advice = _api(host, {"service": "nginx"})
    config = host.get(f"/nodes/{host.node}/lxc/{made['vmid']}/config")
    for key in ("cores", "memory", "unprivileged", "features", "swap", "onboot", "tags"):
        assert config[key] == advice["settings"][key], key

    assert second["name"] == "cache1"
    assert host.get(f"/nodes/{host.node}/lxc/{second['vmid']}/config")["memory"] == 512
    with socket.create_connection((second["addresses"][0], 11211), timeout=10) as connection:
        connection.sendall(b"version\r\n")
        assert connection.recv(100).startswith(b"VERSION")
    for guest in (made, second):
        host.cli("rm", "--force", str(guest["vmid"]))


def test_what_cannot_be_launched_makes_nothing(host: Host) -> None:
    before = [row["id"] for row in host.get("/cluster/resources", type="vm")]
    done = host.cli("launch", "opnsense", check=False)
    assert done.returncode == 3
    assert "bastide launch --iso ISO --name opnsense" in done.stderr
    done = host.cli("launch", "debain-12", check=False)
    assert done.returncode == 3
    assert "debian-12" in done.stderr
    assert [row["id"] for row in host.get("/cluster/resources", type="vm")] == before
