"""Scans of a real SMB server, in namespaces of its own."""

import asyncio
import subprocess
import time
from collections.abc import Iterator

import pytest

from bastide.base.errors import BastideError
from bastide.operations import scan
from framework.namespaces import WORLD4, Lab, lab
from framework.patience import PATIENCE

pytestmark = pytest.mark.system

PASSWORD = "p,=w %geheim"
CONFIG = """[global]
server role = standalone server
map to guest = bad user
disable netbios = yes
smb ports = 445
load printers = no
private dir = {0}/private
lock directory = {0}/lock
state directory = {0}/state
cache directory = {0}/cache
pid directory = {0}/run
ncalrpc dir = {0}/ncalrpc
log file = {0}/log
[media]
path = {0}/share
comment = Films and music
guest ok = yes
[my files]
path = {0}/share
[hidden$]
path = {0}/share
"""


async def shares(*who: str) -> None:
    """Print what the server tells this user."""
    user, password = who or (None, None)
    print(await scan.cifs(WORLD4, user, password, None))


async def refused(user: str, password: str) -> None:
    """Print why the server tells this user nothing."""
    try:
        print(await scan.cifs(WORLD4, user, password, None))
    except BastideError as error:
        print(error)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("samba")
    for name in ("private", "lock", "state", "cache", "run", "ncalrpc", "share"):
        (folder / name).mkdir()
    config = folder / "smb.conf"
    config.write_text(CONFIG.format(folder))
    added = ["smbpasswd", "-c", str(config), "-s", "-a", "root"]
    subprocess.run(added, input=f"{PASSWORD}\n{PASSWORD}\n", text=True, check=True, capture_output=True)
    with lab() as made:
        argv = ["ip", "netns", "exec", made.world, "smbd", "-F", "--no-process-group", "--configfile", config]
        process = subprocess.Popen(
            [*argv, "--debug-stdout"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 20 * PATIENCE
            while ":445" not in made.inside(made.world, "ss -ltn"):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield made
        finally:
            process.terminate()
            process.wait(timeout=10)


def test_shares_are_told_to_guests_and_users(server: Lab) -> None:
    told = server.run("test_scan_servers", "shares")
    assert "'share': 'media', 'description': 'Films and music'" in told
    assert "'share': 'my files'" in told
    assert "hidden" not in told
    assert server.run("test_scan_servers", "shares", "root", PASSWORD) == told


def test_a_wrong_password_is_said_and_not_repeated(server: Lab) -> None:
    said = server.run("test_scan_servers", "refused", "root", "wrong-one")
    assert "LOGON_FAILURE" in said
    assert "wrong-one" not in said


def test_a_server_that_is_not_there_is_said() -> None:
    with pytest.raises(BastideError, match="smbclient"):
        asyncio.run(scan.cifs("127.255.255.254", None, None, None))
