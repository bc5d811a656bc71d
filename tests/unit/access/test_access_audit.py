"""The audit log's files: numbered over restarts and clocks, rotated, whole lines, and what a full disk costs."""

import errno
import json
import os
from pathlib import Path

import pytest

from bastide.access.audit import AuditFilter, AuditLog
from bastide.model.audit import VALUE_LIMIT, AuditRecord

pytestmark = pytest.mark.anyio


def record(path: str = "/nodes/pve/lxc", status: int = 200, user: str = "ada@pve", **rest: object) -> AuditRecord:
    return AuditRecord("write", user, "192.0.2.1", "POST", path, status, **rest)  # type: ignore[arg-type]


async def ids(log: AuditLog, **wanted: object) -> list[int]:
    return [row["id"] for row in await log.read(AuditFilter(**wanted), limit=10_000)]  # type: ignore[arg-type]


async def test_numbers_go_on_over_a_restart_and_a_clock_that_is_set_back(tmp_path: Path) -> None:
    first = AuditLog(tmp_path, clock=lambda: 2_000_000_000.0)
    first.write(record())
    first.write(record(status=403))
    first.close()
    second = AuditLog(tmp_path, clock=lambda: 1_000_000_000.0)
    second.write(record())
    assert await ids(second) == [3, 2, 1]
    second.close()


async def test_filters(tmp_path: Path) -> None:
    now = iter(range(100, 200))
    log = AuditLog(tmp_path, clock=lambda: float(next(now)))
    log.write(record("/nodes/pve/lxc/100/config", user="ada@pve"))
    log.write(record("/nodes/pve/lxc/101/config", user="ada@pve!ci", status=403, error="no"))
    log.write(record("/nodes/pve/qemu", user="bob@pve", upid="UPID:x"))
    assert await ids(log, user="ada@pve") == [2, 1]
    assert await ids(log, user="ada@pve!ci") == [2]
    assert await ids(log, user="ada") == []
    assert await ids(log, path="/lxc/100/") == [1]
    assert await ids(log, failed=True) == [2]
    assert await ids(log, since=101, until=101) == [2]
    assert await ids(log, after=1) == [3, 2]
    assert await ids(log, event="login") == []
    assert [row["id"] for row in await log.read(AuditFilter(), start=1, limit=1)] == [2]
    log.close()


async def test_a_flood_of_refusals_pushes_out_nothing_that_was_done(tmp_path: Path) -> None:
    """With one book for both this fails."""
    log = AuditLog(tmp_path, size=2000, kept=2)
    log.write(record("/nodes/pve/lxc/100"))
    for number in range(200):
        log.write(record(f"/{number}", status=401, user=""))
    rows = await log.read(AuditFilter(), limit=1000)
    assert rows[-1]["path"] == "/nodes/pve/lxc/100"
    assert rows[0]["path"] == "/199"
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 3 * 2000
    assert len(rows) < 100
    log.close()


@pytest.mark.parametrize("text", ["a\nb", "a\r\x1b[2J", "x\u2028y", 'quote " and \\', "ü\ud800", "\0"])
async def test_no_value_ends_a_line(tmp_path: Path, text: str) -> None:
    log = AuditLog(tmp_path)
    log.write(record(text, user=text, parameters={text: text}, error=text))
    log.close()
    (line,) = (tmp_path / "done.jsonl").read_bytes().splitlines()
    assert all(32 <= byte < 127 for byte in line)
    assert json.loads(line)["parameters"] == {text: text}


async def test_long_texts_are_cut(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.write(record("/" + "x" * 100_000, error="y" * 100_000))
    (row,) = await log.read(AuditFilter())
    assert len(row["path"]) == len(row["error"]) == VALUE_LIMIT
    log.close()


async def test_on_a_full_disk_calls_go_on_and_the_loss_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = AuditLog(tmp_path)
    log.write(record("/before"))
    real, room = os.write, [7]

    def write(handle: int, data: bytes) -> int:
        return real(handle, data[: room[0]]) if room[0] else (_ for _ in ()).throw(OSError(errno.ENOSPC, "full"))

    monkeypatch.setattr(os, "write", write)
    log.write(record("/half"))  # a part of the line fits
    room[0] = 0
    log.write(record("/none"))
    monkeypatch.setattr(os, "write", real)
    assert log.lost == 2
    assert caplog.text.count("cannot be written") == 1
    log.write(record("/after"))
    rows = await log.read(AuditFilter())
    assert [row.get("path") for row in rows] == ["/after", None, "/before"]
    assert rows[1]["error"] == "2 records were lost before this one"
    assert [row["id"] for row in rows] == [3, 2, 1]
    log.close()


async def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.write(record("/1"))
    (tmp_path / "done.jsonl").rename(tmp_path / "elsewhere")
    log.write(record("/2"))
    assert "/2" in (tmp_path / "done.jsonl").read_text()
    assert "/2" not in (tmp_path / "elsewhere").read_text()
    log.close()


async def test_lines_that_are_none_hide_no_others(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.write(record("/1"))
    log.close()
    with (tmp_path / "done.jsonl").open("ab") as file:
        file.write(b'\x00\xff\n[]\n{"id": "x"}\n{"id": 7, "unknown": 1}\n{"torn": ')
    again = AuditLog(tmp_path)
    again.write(record("/2"))
    assert [row["path"] for row in await again.read(AuditFilter())] == ["/2", "/1"]
    again.close()


async def test_the_files_are_roots_alone(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit")
    log.write(record())
    log.close()
    assert (tmp_path / "audit").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "audit/done.jsonl").stat().st_mode & 0o777 == 0o600
