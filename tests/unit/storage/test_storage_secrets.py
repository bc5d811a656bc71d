"""Passwords and keyrings: who may read them, what they cannot hold, and that they go."""

import stat
from pathlib import Path

import pytest

from bastide.base.errors import InvalidParameter
from bastide.base.layout import Layout
from bastide.storage import secrets

KEY = "AQBSdFhcGAAAABAAr9zRrJYfDlPhZXDMgrxOXQ=="


def test_they_are_roots_alone_and_go_with_their_storage(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    secrets.keep(layout, "nas", "password", "p,=w\\ ")
    secrets.keep(layout, "nas.password", "password", "other")
    file = secrets.path(layout, "nas", "password")
    assert file.read_text() == "password=p,=w\\ \n"
    for path in (file, file.parent):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    secrets.forget(layout, "nas")
    secrets.forget(layout, "nas")
    assert [path.name for path in file.parent.iterdir()] == ["nas.password.password"]
    secrets.tidy(layout, frozenset({"nas"}))
    assert list(file.parent.iterdir()) == []


@pytest.mark.parametrize("text", [f'[client.admin]\n\tkey = {KEY}\n\tcaps mds = "allow *"\n', KEY, f"{KEY}\n"])
def test_a_keyring_has_its_key_taken_out(tmp_path: Path, text: str) -> None:
    layout = Layout(tmp_path)
    secrets.keep(layout, "ceph", "keyring", text)
    assert secrets.path(layout, "ceph", "secret").read_text() == f"{KEY}\n"
    assert secrets.path(layout, "ceph", "keyring").read_text().strip() == text.strip()
    kept = secrets.read(layout, "ceph")
    secrets.keep(layout, "ceph", "keyring", None)
    assert secrets.read(layout, "ceph") == {}
    secrets.restore(layout, "ceph", kept)
    assert secrets.read(layout, "ceph") == kept


def test_what_is_no_secret_is_refused_and_not_repeated(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for secret, text in (("password", "geheim\nuid=0"), ("password", "geheim" * 50), ("keyring", "geheim")):
        with pytest.raises(InvalidParameter) as caught:
            secrets.keep(layout, "s1", secret, text)  # type: ignore[arg-type]
        assert list(caught.value.errors) == [secret]
        assert "geheim" not in str(caught.value)
    assert not (layout.state / "secrets").exists()
