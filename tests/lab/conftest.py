"""One lab for all its tests, with the package of this checkout installed, and a Debian template."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framework.host import CACHE, Host
from framework.lab import INSIDE, REPOSITORY, Lab

TEMPLATES = "/var/lib/bastide/storage/template/cache"


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A resumed lab with the checkout in it."""
    with Lab.resumed() as resumed:
        resumed.sync()
        yield resumed


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .deb of this checkout, or the one that LAB_PACKAGE names."""
    if os.environ.get("LAB_PACKAGE"):
        return Path(os.environ["LAB_PACKAGE"])
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([REPOSITORY / "packaging/build-deb", folder], check=True, stdin=subprocess.DEVNULL)
    (deb,) = folder.glob("*.deb")
    return deb


@pytest.fixture(scope="session")
def installed(lab: Lab, package: Path) -> Lab:
    """The lab with Bastide installed from its package and running."""
    lab.push(package, "/root/bastide.deb")
    lab.run("dpkg", "--install", "/root/bastide.deb")
    lab.run("systemctl", "enable", "--now", "bastide")
    return lab


@pytest.fixture(scope="session")
def template() -> Path:
    """A Debian 12 template, built once on this machine outside the lab."""
    if not list(CACHE.glob("debian-12*.tar.zst")):
        with Host.launched(number=2) as host:
            host.template()
    (file, *_) = sorted(CACHE.glob("debian-12*.tar.zst"))
    return file


@pytest.fixture(scope="session")
def stocked(installed: Lab, template: Path) -> Lab:
    """The installed lab with the template where its daemon, and where the system tests, look for it."""
    installed.run("mkdir", "-p", str(CACHE))
    for file in CACHE.glob("debian-12*"):
        if file.is_file():
            installed.push(file, f"{CACHE}/{file.name}")
            installed.run("cp", f"{CACHE}/{file.name}", f"{TEMPLATES}/{file.name}")
    return installed


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    """Attach the lab's console and the daemon's journal to the report of a failed test."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed:
        for value in {id(v): v for v in getattr(item, "funcargs", {}).values() if isinstance(v, Lab)}.values():
            report.sections.append(("the lab's console", value.log()))
            journal = value.run("journalctl", "--no-pager", "-n", "200", check=False, seconds=120)
            report.sections.append(("the lab's journal", journal.stdout))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is the lab's, shares one, and may take long."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.lab)
            item.add_marker(pytest.mark.timeout(3600))


def checkout(*argv: str) -> tuple[str, ...]:
    """A command line of the checkout's Python in the lab."""
    return (f"{INSIDE}/.venv/bin/python", *argv)
