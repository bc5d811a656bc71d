"""The catalog's recipes for real: each in a fresh container, until its service answers this host.

The quick ones run always, two at a time; all others, and some in a VM, are slow: `./bastide test -m slow
tests/system/test_recipes.py`.
"""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from bastide.architect import entries
from bastide.architect.entries import parse_entry
from framework.host import Host, TaskFailed

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

FOLDER = Path(entries.__file__).with_name("catalog")
RECIPES = sorted(path.stem for path in FOLDER.glob("*.yaml") if parse_entry(path.read_text(), path.name).recipe)
QUICK = [
    "chrony", "dnsmasq", "haproxy", "memcached", "mosquitto", "nginx", "prometheus-node-exporter",
    "rsync-server", "sftp-server", "unbound",
]  # fmt: skip
ONLY_IN_VM = "nfs-server"
OPTIONS: dict[str, dict[str, Any]] = {
    "docker": {"features": "nesting=1,keyctl=1"},
    "podman": {"features": "nesting=1,keyctl=1"},
    "wireguard": {"dev0": "path=/dev/net/tun"},
}
_creating = threading.Lock()


def become(host: Host, name: str) -> str:
    """Install a service in a container of its own; returns the task's log."""
    with _creating:  # vmids are counted
        vmid = host.create(start=True, hostname=name, memory=1024, **OPTIONS.get(name, {}))
    try:
        return install(host, vmid, name)
    finally:
        host.wait(host.delete(host.path(vmid), force=1))


def install(host: Host, vmid: int, name: str, **options: Any) -> str:
    return host.wait(host.post("/architect/install", guest=vmid, service=name, **options), 900)


@pytest.fixture(scope="module")
def quick(host: Host) -> Iterator[dict[str, Future[str]]]:
    """The quick recipes, under way."""
    host.template()
    with ThreadPoolExecutor(2) as pool:
        under_way = {name: pool.submit(become, host, name) for name in QUICK}
        try:
            yield under_way
        finally:
            for future in under_way.values():
                future.cancel()


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_recipe(quick: dict[str, Future[str]], name: str) -> None:
    assert f"{name} answers: " in quick[name].result()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", [name for name in RECIPES if name not in {*QUICK, "redis", ONLY_IN_VM}])
def test_a_recipe(host: Host, name: str) -> None:
    assert f"{name} answers: " in become(host, name)


def test_a_second_run_keeps_the_secrets(host: Host) -> None:
    vmid = host.create(start=True)
    log = install(host, vmid, "redis")
    password = host.execute(vmid, "cat", "/root/redis.secrets").strip().partition("=")[2]
    assert len(password) == 24
    log += install(host, vmid, "redis")
    assert host.execute(vmid, "cat", "/root/redis.secrets").strip().endswith(password)
    with socket.create_connection((host.wait_address(vmid), 6379), 5) as client:
        client.sendall(f"AUTH {password}\r\nPING\r\n".encode())
        answer = b""
        while b"PONG" not in answer and (data := client.recv(100)):
            answer += data
    assert answer == b"+OK\r\n+PONG\r\n"
    assert password not in log + host.all_logs()
    host.wait(host.delete(host.path(vmid), force=1))


ENTRY = """
name: {name}
title: Broken
summary: Shows how a failure is told
category: system
source: none
size: {{minimum: {{cores: 1, memory: 64M, disk: 1G}}, usual: {{cores: 1, memory: 64M, disk: 1G}}}}
recipe: {recipe}
"""
BROKEN = {
    "no-package": "{packages: [no-such-package-anywhere], probe: {type: tcp, port: 9}}",
    "no-answer": "{services: [systemd-journald.service], probe: {type: tcp, port: 9, seconds: 2}}",
    "no-script": "{run: ['echo the reason >&2; exit 7'], probe: {type: tcp, port: 9}}",
    "no-system": "{os: [debian-99], probe: {type: tcp, port: 9}}",
    "no-unit": "{services: [nosuch.service], probe: {type: tcp, port: 9}}",
}


def test_failures_say_what_is_wrong(host: Host, tmp_path: Path) -> None:
    for name, recipe in BROKEN.items():
        (tmp_path / f"{name}.yaml").write_text(ENTRY.format(name=name, recipe=recipe))
    vmid = host.create(start=True)
    told = {}
    for name in BROKEN:
        with pytest.raises(TaskFailed) as caught:
            install(host, vmid, name, catalog=tmp_path)
        told[name] = str(caught.value).splitlines()[0]
    assert f"apt-get failed in CT {vmid}: E: Unable to locate package no-such-package-anywhere" in told["no-package"]
    assert "does not answer after 2 seconds: tcp " in told["no-answer"]
    assert "Connection refused" in told["no-answer"]
    assert "its journal ends with:" in told["no-answer"]
    assert told["no-script"].endswith("with exit code 7: the reason")
    assert told["no-system"] == f"the recipe for no-system is for debian-99: CT {vmid} runs debian-12"
    assert "nosuch.service" in told["no-unit"]
    host.wait(host.delete(host.path(vmid), force=1))


@pytest.mark.slow
def test_what_no_container_can_be_is_told(host: Host) -> None:
    with pytest.raises(TaskFailed, match="open files by handle, as an NFS server must: use a VM"):
        become(host, ONLY_IN_VM)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_recipes_in_a_vm(host: Host) -> None:
    vmid = host.create_debian_vm(memory=1024)
    answers = {}
    for name in ("nginx", "redis", "mosquitto", ONLY_IN_VM):  # without waiting for the agent: the recipe does
        log = host.wait(host.post("/architect/install", guest=vmid, service=name), 1800)
        answers[name] = log.partition(f"{name} answers: ")[2].partition("\n")[0]
    assert httpx.get(answers["nginx"]).status_code == 200
    assert answers["redis"].startswith("tcp ")
    assert answers["mosquitto"].startswith("env HOME=/root mosquitto_sub ")
    host.wait(host.post(host.path(vmid, "/status/stop")))
    host.wait(host.delete(host.path(vmid)))
