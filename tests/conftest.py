"""What every test has: the event loop of `anyio` tests, the published API reference, and hosts.

When a system test fails, the logs of its host are part of the report.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from framework.disposable import Disposable
from framework.host import Host
from framework.patience import PATIENCE

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests run under asyncio, as the daemon does."""
    return "asyncio"


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of the Proxmox VE API reference (`pve-api-9.1.json`), beside the checkout.

    Tests that ask for it are left out where it does not lie there, except in continuous integration.
    """
    if not REFERENCE.is_dir():
        pytest.fail(f"the API reference is not at {REFERENCE}: put it there, or run without CI=true", pytrace=False)
    return REFERENCE


def in_ci() -> bool:
    """Whether this run is continuous integration, which may leave nothing out."""
    return os.environ.get("CI", "").lower() not in {"", "0", "false"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs an absent reference, and be patient where that was asked for."""
    absent = (
        [] if in_ci() or REFERENCE.is_dir() else [i for i in items if "reference" in getattr(i, "fixturenames", ())]
    )
    if absent:
        config.hook.pytest_deselected(items=absent)
        items[:] = [item for item in items if item not in absent]
    for item in items:
        limit = item.get_closest_marker("timeout")
        if limit is not None and PATIENCE != 1:
            item.add_marker(pytest.mark.timeout(limit.args[0] * PATIENCE), append=False)


@pytest.fixture(scope="session")
def disposable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disposable]:
    """File systems of each kind, made once a worker."""
    with ExitStack() as stack:
        yield Disposable(tmp_path_factory.mktemp("disposable"), stack)


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    """One host a worker, shared by the tests that leave others' guests alone."""
    if os.geteuid() != 0:
        pytest.fail("system tests need root", pytrace=False)
    with Host.launched() as launched:
        yield launched


@pytest.fixture
def own_host() -> Iterator[Host]:
    """A host of the test's own, for killing and reconfiguring it."""
    with Host.launched(number=1) as launched:
        yield launched


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    """Attach the hosts' logs to the report of a failed test."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Host):
                report.sections.append(("logs of the host", value.all_logs()))
