"""What the web process costs: the same application with it and without it, asked in turns."""

import contextlib
import http.client
import os
import socket
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bastide.base.units import GIB, MIB
from bastide.host import processes
from bench.conftest import Report

pytestmark = pytest.mark.bench

_ROUNDS, _CALLS = 10, 60
_HERE = Path(__file__).parent
_TRANSFER = GIB // 2
_SERVERS: dict[str, int] = {}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The ports of both servers, and their processes by way of `_SERVERS`."""
    if os.geteuid() != 0:
        pytest.fail("this benchmark needs root", pytrace=False)
    ports = {}
    with contextlib.ExitStack() as stack:
        for way in ("split", "single"):
            with socket.create_server(("127.0.0.1", 0)) as free:
                ports[way] = free.getsockname()[1]
            folder = tmp_path_factory.mktemp(way)
            process = subprocess.Popen(
                [sys.executable, _HERE / "web_servers.py", way, str(ports[way]), folder],
                env={"PYTHONPATH": f"{_HERE.parents[1] / 'src'}:{_HERE.parent}", "PATH": os.environ["PATH"]},
                stdout=subprocess.PIPE,
            )
            _SERVERS[way] = process.pid
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for port in ports.values():
            _connection(port).request("GET", "/api2/json/version")
        time.sleep(2)
        yield ports


def _connection(port: int) -> http.client.HTTPSConnection:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=120)


def _processor_time(pid: int) -> float:
    """Seconds that a process and those it started have used (proc(5), /proc/PID/stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(_processor_time(child) for child in processes.children(pid))


def _calls(connection: http.client.HTTPSConnection, path: str) -> Iterator[float]:
    for _ in range(_CALLS):
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        yield time.perf_counter() - began
        assert answer.status == 200


@pytest.mark.parametrize("path", ["/api2/json/version", "/api2/json/cluster/resources"])
def test_a_call(both: dict[str, int], report: Report, path: str) -> None:
    times: dict[str, list[float]] = {way: [] for way in both}
    connections = {way: _connection(port) for way, port in both.items()}
    before = {way: _processor_time(pid) for way, pid in _SERVERS.items()}
    for _ in range(_ROUNDS):
        for way, connection in connections.items():
            times[way] += _calls(connection, path)
    split, single = (statistics.median(times[way]) * 1000 for way in ("split", "single"))
    report.add(
        f"`GET {path}`, 50th percentile, beside one process",
        f"{split:.2f} ms",
        f"{single:.2f} ms",
        f"{split - single:+.2f} ms",
        "at most +1.5 ms",
        met=split - single <= 1.5,
    )
    spent = {way: (_processor_time(pid) - before[way]) / _ROUNDS / _CALLS * 1000 for way, pid in _SERVERS.items()}
    report.add(
        f"the same, processor time of all processes a call (load {os.getloadavg()[0]:.0f})",
        f"{spent['split']:.2f} ms",
        f"{spent['single']:.2f} ms",
        f"{spent['split'] - spent['single']:+.2f} ms",
        "at most +1.5 ms",
        met=spent["split"] - spent["single"] <= 1.5,
    )


def _upload(port: int) -> float:
    connection = _connection(port)
    part = bytes(MIB)
    began = time.perf_counter()
    connection.putrequest("POST", "/sink")
    connection.putheader("Content-Length", str(_TRANSFER))
    connection.endheaders()
    for _ in range(_TRANSFER // MIB):
        connection.send(part)
    assert connection.getresponse().read() == b""
    return time.perf_counter() - began


def _download(port: int) -> float:
    connection = _connection(port)
    began = time.perf_counter()
    connection.request("GET", f"/source?{_TRANSFER}")
    answer = connection.getresponse()
    taken = 0
    while data := answer.read(MIB):
        taken += len(data)
    assert taken == _TRANSFER
    return time.perf_counter() - began


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_a_transfer(both: dict[str, int], report: Report, direction: str) -> None:
    move = {"upload": _upload, "download": _download}[direction]
    times: dict[str, list[float]] = {way: [] for way in both}
    for _ in range(3):
        for way, port in both.items():
            times[way].append(move(port))
    split, single = (min(times[way]) for way in ("split", "single"))
    report.add(
        f"{direction} of {_TRANSFER // MIB} MiB, beside one process",
        f"{_TRANSFER / MIB / split:.0f} MiB/s",
        f"{_TRANSFER / MIB / single:.0f} MiB/s",
        f"{split / single:.2f} times",
        "at most 1.1 times",
        met=split <= 1.1 * single,
    )
