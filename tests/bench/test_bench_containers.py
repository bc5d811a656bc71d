"""What a container costs against plain LXC: creation, start, commands, stop, deletion."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import unix_connect

from bench.conftest import Report, median, milliseconds
from bench.peer_lxd import running_lxd
from bench.plain import PlainLxc, attach, wait_up
from framework.host import LXC_PATH, REPOSITORY, Host

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]
ROUNDS = 3


@pytest.fixture(scope="module")
def plain(host: Host) -> Iterator[PlainLxc]:
    """Plain LXC beside the host's own containers, on the same file system."""
    by_hand = PlainLxc(host.bridge)
    yield by_hand
    by_hand.dispose()


def _template(host: Host) -> Path:
    return host.root / "state/storage/template/cache" / host.template().rpartition("/")[2]


def test_create_and_start(host: Host, plain: PlainLxc, report: Report) -> None:
    template = _template(host)
    made: list[int] = []

    def ours() -> None:
        made.append(host.create(start=True, hostname="bench"))
        wait_up(LXC_PATH, host.lxc_name(made[-1]))

    def by_hand() -> None:
        name = f"plain{len(made)}"
        plain.create(name, template, len(made))
        plain.start(name)
        wait_up(plain.folder, name)

    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        taken[1].extend(milliseconds(by_hand, 1))
        taken[0].extend(milliseconds(ours, 1))
        plain.stop(f"plain{len(made) - 1}")
        plain.destroy(f"plain{len(made) - 1}")
        host.wait(host.delete(host.path(made[-1]), force=1))
    a, b = median(taken[0]), median(taken[1])
    report.add("create and start until systemd runs and the address is known", f"{a:.0f} ms", f"{b:.0f} ms",
               f"{a / b:.2f} times", "at most 1.3 times", met=a / b <= 1.3)  # fmt: skip


def test_start_stop_delete_exec(host: Host, plain: PlainLxc, report: Report) -> None:
    vmid = host.create(hostname="bench")
    plain.create("bench", _template(host), 99)
    figures: dict[str, list[float]] = {key: [] for key in ("start", "hand start", "stop", "hand stop")}
    for _ in range(5):
        figures["start"] += milliseconds(lambda: host.act(vmid, "start"), 1)
        figures["hand start"] += milliseconds(lambda: plain.start("bench"), 1)
        wait_up(LXC_PATH, host.lxc_name(vmid))
        wait_up(plain.folder, "bench")
        figures["stop"] += milliseconds(lambda: host.act(vmid, "stop"), 1)
        figures["hand stop"] += milliseconds(lambda: plain.stop("bench"), 1)
    a, b = median(figures["start"]), median(figures["hand start"])
    lxd = _lxd_start(host)
    report.add(
        "start returned, beside plain LXC and LXD",
        f"{a:.0f} ms",
        f"{b:.0f} ms; LXD {lxd:.0f} ms" if lxd else f"{b:.0f} ms; LXD is not installed",
        f"{a / lxd:.2f} times LXD's" if lxd else "",
        "at most half of LXD's",
        met=lxd is not None and a <= lxd / 2,
    )
    a, b = median(figures["stop"]), median(figures["hand stop"])
    report.add("stop by force", f"{a:.0f} ms", f"{b:.0f} ms", f"{a - b:+.0f} ms", "at most +50 ms", met=a - b <= 50)

    host.act(vmid, "start")
    wait_up(LXC_PATH, host.lxc_name(vmid))
    hand = median(milliseconds(lambda: attach(LXC_PATH, host.lxc_name(vmid), "true"), 30))
    api = median(_exec_over_api(host, vmid))
    report.add("exec true through the API", f"{api:.1f} ms", f"{hand:.1f} ms", f"{api - hand:+.1f} ms",
               "at most +15 ms", met=api - hand <= 15)  # fmt: skip
    command = [str(REPOSITORY / "bastide"), "exec", str(vmid), "--", "true"]
    whole = median(milliseconds(lambda: subprocess.run(command, env=host.environment(), check=True), 20))
    report.add("./bastide exec web -- true, as a whole", f"{whole:.0f} ms", f"{hand:.0f} ms", f"{whole:.0f} ms",
               "under 150 ms", met=whole < 150)  # fmt: skip

    host.act(vmid, "stop")
    deleted = milliseconds(lambda: host.wait(host.delete(host.path(vmid))), 1)[0]
    by_hand = milliseconds(lambda: plain.destroy("bench"), 1)[0]
    report.add("delete", f"{deleted:.0f} ms", f"{by_hand:.0f} ms", f"{deleted - by_hand:+.0f} ms",
               "at most +50 ms", met=deleted - by_hand <= 50)  # fmt: skip


def _lxd_start(host: Host) -> float | None:
    """Milliseconds until LXD's start of a stopped container returns; None where LXD is not installed."""
    if shutil.which("lxd") is None:
        return None
    with running_lxd(host.bridge, _template(host)) as lxd:
        lxd.client("init", "base", "bench")
        lxd.client("start", "bench")
        taken = []
        for _ in range(3):
            lxd.wait_up("bench")
            lxd.client("stop", "--force", "bench")
            taken += milliseconds(lambda: lxd.client("start", "bench"), 1)
        return median(taken)


def _exec_over_api(host: Host, vmid: int) -> list[float]:
    """`exec true` on a fresh connection each, without the start of a client program."""

    def once() -> None:
        uri = f"ws://local/api2/json/bastide/guests/{vmid}/exec?command=true&tty=0"
        with unix_connect(str(host.root / "run/api.sock"), uri) as socket:
            with contextlib.suppress(ConnectionClosed):  # it may have ended already
                socket.send(b"\x02")
            last = b""
            for message in socket:
                last = message if isinstance(message, bytes) else message.encode()
            assert last == b"\x030", last

    return milliseconds(once, 30)
