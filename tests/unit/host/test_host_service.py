"""What the daemon says to and asks of a service manager."""

import socket
from pathlib import Path

import pytest

from bastide.host import service


def test_readiness_is_told_once_where_somebody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        service.notify_ready()
        assert listener.recv(100) == b"READY=1"
    service.notify_ready()  # nobody listens any more: no error


@pytest.mark.anyio
async def test_without_a_service_manager_the_machine_does_not_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not await service.machine_is_stopping()
