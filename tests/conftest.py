"""What every test has: the event loop of `anyio` tests, the published API reference, and spreading over workers."""

import os
from pathlib import Path

import pytest

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
    """Keep a module's system tests on one worker, and leave out what needs an absent reference."""
    absent = (
        [] if in_ci() or REFERENCE.is_dir() else [i for i in items if "reference" in getattr(i, "fixturenames", ())]
    )
    if absent:
        config.hook.pytest_deselected(items=absent)
        items[:] = [item for item in items if item not in absent]
    for item in items:
        if item.get_closest_marker("system") and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.name))
