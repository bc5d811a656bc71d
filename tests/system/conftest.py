"""Hosts for system tests. When a test fails, the logs of its host are part of the report."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from framework.host import Host


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
