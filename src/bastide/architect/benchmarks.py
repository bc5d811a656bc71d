"""The tools that measure a running system: their argument lists, and what their output says. Pure.

The same commands run in a container, in a VM and on the host. Sources: sysbench(1) of Debian 12 (1.0.20), fio(1) and
its JSON output, iperf3(1) `--json`, ping(8).
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bastide.base.units import MIB
from bastide.model.comparison import Measure

TOOLS = ("fio", "iperf3", "sysbench")
"""The Debian packages that have to be there, and the programs in them."""

_EVENTS = re.compile(r"events per second:\s*([\d.]+)")
_TRANSFERRED = re.compile(r"MiB transferred \(([\d.]+) MiB/sec\)")
_ROUND_TRIP = re.compile(r"= [\d.]+/([\d.]+)/")
_PINGS = 20
_DEPTH = 16


@dataclass(frozen=True, slots=True)
class Extent:
    """How long and how large: `seconds` a tool runs, `file` MiB that fio works on in the file at `path`."""

    seconds: int
    file: int
    path: str
    threads: int
    direct: bool = True


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A command, and how its output becomes a value of its measure. `read` raises ValueError."""

    measure: Measure
    unit: str
    argv: tuple[str, ...]
    read: Callable[[str], float]


def processor(extent: Extent) -> list[Benchmark]:
    """Of the processor and the memory."""
    timed = f"--time={extent.seconds}"
    single, everything = (("sysbench", "cpu", timed, f"--threads={count}", "run") for count in (1, extent.threads))
    memory = ("sysbench", "memory", timed, "--memory-block-size=1M", "--memory-total-size=1000T", "run")
    return [
        Benchmark("cpu_single", "1/s", single, events_per_second),
        Benchmark("cpu_all", "1/s", everything, events_per_second),
        Benchmark("memory_bandwidth", "B/s", memory, bytes_transferred),
    ]


def disk(extent: Extent) -> list[Benchmark]:
    """Of the disk that holds the path. The first one writes the file that the others use."""
    return [
        Benchmark("disk_write", "B/s", _fio(extent, "write", "1M"), lambda text: fio_figure(text, "write", "bw_bytes")),
        Benchmark("disk_read", "B/s", _fio(extent, "read", "1M"), lambda text: fio_figure(text, "read", "bw_bytes")),
        Benchmark(
            "disk_write_4k", "1/s", _fio(extent, "randwrite", "4k"), lambda text: fio_figure(text, "write", "iops")
        ),
        Benchmark("disk_read_4k", "1/s", _fio(extent, "randread", "4k"), lambda text: fio_figure(text, "read", "iops")),
    ]


def network(extent: Extent, address: str, port: int) -> list[Benchmark]:
    """Of the network to an iperf3 server at that address."""
    plain = ("iperf3", "-J", "--connect-timeout", "5000", "-c", address, "-p", str(port), "-t", str(extent.seconds))
    return [
        Benchmark("net_out", "B/s", plain, iperf_throughput),
        Benchmark("net_in", "B/s", (*plain, "-R"), iperf_throughput),
    ]


def latency(address: str) -> list[Benchmark]:
    """Of a round trip to that address."""
    return [
        Benchmark(
            "net_latency", "s", ("ping", "-n", "-q", "-c", str(_PINGS), "-i", "0.05", "-W", "2", address), round_trip
        )
    ]


def _fio(extent: Extent, work: str, block: str) -> tuple[str, ...]:
    return (
        *("fio", "--name=bastide", f"--filename={extent.path}", f"--size={extent.file}M", f"--rw={work}"),
        *(f"--bs={block}", f"--direct={int(extent.direct)}", "--ioengine=libaio", f"--iodepth={_DEPTH}"),
        *("--time_based=1", f"--runtime={extent.seconds}", "--randrepeat=1", "--output-format=json"),
    )


def events_per_second(text: str) -> float:
    """What `sysbench cpu` did, in events a second. Raises ValueError."""
    return _number(_EVENTS, text, "sysbench")


def bytes_transferred(text: str) -> float:
    """What `sysbench memory` moved, in bytes a second. Raises ValueError."""
    return _number(_TRANSFERRED, text, "sysbench") * MIB


def round_trip(text: str) -> float:
    """The mean round trip of `ping -q`, in seconds. Raises ValueError."""
    return _number(_ROUND_TRIP, text, "ping") / 1000


def fio_figure(text: str, direction: str, key: str) -> float:
    """A figure of fio's only job, such as `iops` of `read`. Raises ValueError."""
    # fio writes notes before its JSON.
    jobs = _object(text[max(0, text.find("{")) :], "fio").get("jobs")
    try:
        value = float(jobs[0][direction][key])  # type: ignore[index]
    except (TypeError, LookupError, ValueError):
        raise ValueError("fio's output has no such figure") from None
    return _positive(value, "fio")


def iperf_throughput(text: str) -> float:
    """What arrived at the other end, in bytes a second. Raises ValueError with iperf3's own error."""
    answer = _object(text, "iperf3")
    if answer.get("error"):
        raise ValueError(f"iperf3: {str(answer['error'])[:200]}")
    try:
        value = float(answer["end"]["sum_received"]["bits_per_second"]) / 8
    except (TypeError, LookupError, ValueError):
        raise ValueError("iperf3's output has no throughput") from None
    return _positive(value, "iperf3")


def _number(pattern: re.Pattern[str], text: str, tool: str) -> float:
    found = pattern.search(text)
    if found is None:
        raise ValueError(f"{tool}'s output has no figure")
    return _positive(float(found[1]), tool)


def _positive(value: float, tool: str) -> float:
    if not 0 < value < 1e18:
        raise ValueError(f"{tool} measured nothing")
    return value


def _object(text: str, tool: str) -> Mapping[str, Any]:
    try:
        found, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{tool}'s output is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError(f"{tool}'s output is not an object")
    return found
