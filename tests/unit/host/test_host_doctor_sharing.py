"""The doctor says by what means guests share what they have in common."""

from pathlib import Path

import pytest

from bastide.base.errors import HostFailure
from bastide.host import doctor, overlay, reflink
from framework.disposable import Disposable


@pytest.mark.system
@pytest.mark.parametrize(("kind", "told"), [("ext4", "overlays"), ("xfs", "share blocks"), ("btrfs", "subvolumes")])
def test_each_file_system_has_its_means(kind: str, told: str, disposable: Disposable) -> None:
    check = doctor._sharing(disposable.on(kind), kind)
    assert check.ok == "ok"
    assert told in check.message


def test_a_kernel_without_overlays_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_folder: Path) -> bool:
        raise HostFailure("permission denied")

    monkeypatch.setattr(reflink, "supported", refused)
    monkeypatch.setattr(overlay, "supported", lambda: False)
    check = doctor._sharing(tmp_path, "ext4")
    assert check.ok == "warn"
    assert "copied" in check.message
