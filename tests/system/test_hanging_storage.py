"""A storage whose file system never answers: it alone is away, the host goes on, stops and starts."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from framework.hanging import Hanging
from framework.host import Host
from framework.patience import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("hanging")]

SOON = 1.0 * PATIENCE
DEADLINE = 10.0
START = 30.0
OTHERS = (
    "/version",
    "/storage",
    "/cluster/resources",
    "/cluster/tasks",
    "/nodes/{node}/status",
    "/nodes/{node}/lxc",
    "/nodes/{node}/qemu",
    "/nodes/{node}/storage/local/status",
    "/nodes/{node}/storage/local/content",
)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host.launched(number=7) as launched:
        yield launched


@pytest.fixture
def place(tmp_path: Path, host: Host) -> Iterator[Hanging]:
    with Hanging.mounted(tmp_path) as mounted:
        host.post("/storage", storage="far", type="dir", path=str(mounted.folder), content="iso,vztmpl")
        yield mounted
        mounted.answer()
        until(lambda: active(host))
        host.delete("/storage/far")


def active(host: Host) -> bool:
    return bool(host.get(f"/nodes/{host.node}/storage/far/status")["active"])


def until(condition: object, seconds: float = 30 * PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def timed(host: Host, path: str) -> float:
    started = time.monotonic()
    host.get(path.format(node=host.node))
    return time.monotonic() - started


def test_a_storage_that_hangs_is_away_alone(host: Host, place: Hanging) -> None:
    assert active(host)
    place.hang()
    with ThreadPoolExecutor() as pool:
        started = time.monotonic()
        status = pool.submit(active, host)
        times = {path: timed(host, path) for path in OTHERS}
        assert status.result() is False
        assert time.monotonic() - started < DEADLINE + SOON
    assert {path: took for path, took in times.items() if took > SOON} == {}
    again = {path: timed(host, path) for path in (*OTHERS, "/nodes/{node}/storage", "/nodes/{node}/storage/far/status")}
    assert {path: took for path, took in again.items() if took > SOON} == {}, "it is known to hang"

    started = time.monotonic()
    host.stop()
    assert time.monotonic() - started < DEADLINE * PATIENCE
    started = time.monotonic()
    host.start()
    assert time.monotonic() - started < DEADLINE + START * PATIENCE
    assert timed(host, "/cluster/resources") < SOON
    assert not active(host)

    place.answer()
    until(lambda: active(host))
    assert host.get(f"/nodes/{host.node}/storage/far/content") == []
