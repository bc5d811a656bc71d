"""One connection to an NBD server passed on to any number of clients."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from bastide.base.errors import HostFailure
from bastide.host import qemu_nbd, unix_sockets
from bastide.host.nbd import NbdClient
from bastide.host.nbd_relay import relay
from bastide.host.run import kill_group

pytestmark = [pytest.mark.anyio, pytest.mark.system]

SIZE = 1 << 20


def _read(path: Path) -> bytes:
    with NbdClient(unix_sockets.connect(path), timeout=20) as client:
        assert client.read_only
        assert client.tells_zeros
        assert client.block_status(SIZE // 2, SIZE // 2) == [(SIZE // 2, True)]
        return client.read(0, SIZE)


async def test_clients_come_and_go_and_the_server_sees_one(tmp_path: Path) -> None:
    disk, path = tmp_path / "disk", tmp_path / "relay.sock"
    content = os.urandom(SIZE // 2) + bytes(SIZE // 2)
    disk.write_bytes(content[: SIZE // 2])
    os.truncate(disk, SIZE)
    async with qemu_nbd.serving(disk, folder=tmp_path) as server:
        with unix_sockets.connect(server) as peer:
            peer.setblocking(True)
            process = await relay(peer, "", SIZE, path)
            try:
                for _ in range(3):
                    assert await asyncio.to_thread(_read, path) == content
                assert process.returncode is None
            finally:
                await kill_group(process)
            with pytest.raises(ConnectionRefusedError):
                unix_sockets.connect(path).close()
            # Nobody took leave: whoever holds the connection has it still.
            peer.setblocking(False)
            with pytest.raises(BlockingIOError):
                peer.recv(1)


async def test_a_server_that_says_nothing_of_the_kind_is_refused(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(HostFailure):
        await relay(ours, "", SIZE, tmp_path / "relay.sock")
    assert not (tmp_path / "relay.sock").exists()
