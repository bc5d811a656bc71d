"""Kernel settings are raised once and given back, unless someone else has changed them."""

from pathlib import Path

import pytest

from bastide.host import kernel_limits, sysctl


def test_raise_and_give_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysctl, "_ROOT", tmp_path)
    low, high, changed, record = (tmp_path / name for name in ("low", "high", "changed", "record"))
    low.write_text("128\n")
    high.write_text("99999\n")
    changed.write_text("1\n")
    wanted = {"low": 1000, "high": 1000, "changed": 1000, "missing": 1000}
    kernel_limits.raise_to(wanted, record)
    kernel_limits.raise_to(wanted, record)
    assert [path.read_text() for path in (low, high, changed)] == ["1000", "99999\n", "1000"]
    changed.write_text("5000")
    kernel_limits.give_back(record)
    assert [path.read_text() for path in (low, high, changed)] == ["128", "99999\n", "5000"]
    assert not record.exists()
    kernel_limits.give_back(record)
