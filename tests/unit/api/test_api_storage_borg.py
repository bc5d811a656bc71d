"""`/storage` of the type `borg`: what is shown once, and to whom the key is told again."""

import os
from pathlib import Path

import pytest

from bastide.storage.borg import BorgStorage
from bastide.storage.dir import DirStorage
from framework.api import Api, call

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes repositories as root"),
]


async def test_passphrase_and_key_are_shown_once_and_the_key_to_root_again(tmp_path: Path) -> None:
    api = await Api.make(tmp_path / "host", {"dir": DirStorage, "borg": BorgStorage})
    path = str(tmp_path / "vault")
    made = await api.data("POST", "/storage", storage="vault", type="borg", path=path, compression="zstd,5")
    passphrase, key = made["config"]["passphrase"], made["config"]["encryption-key"]
    assert len(bytes.fromhex(passphrase)) == 32
    assert key.startswith("BORG_KEY ")
    shown = await api.data("GET", "/storage/vault")
    assert {name: shown[name] for name in ("type", "content", "path", "compression")} == {
        "type": "borg", "content": "backup", "path": path, "compression": "zstd,5",
    }  # fmt: skip
    for where in ("/storage", "/storage/vault", "/nodes/pve/storage", "/bastide/storage"):
        assert passphrase not in (await api.root.get(where)).text
    assert await api.data("GET", "/bastide/storage/vault/key") == {"encryption-key": key}
    admin = await api.token("eve@pve", grants={"/": "Administrator"})
    assert (await call(admin, "GET", "/bastide/storage/vault/key")).status_code == 403
    wrong = await call(api.root, "PUT", "/storage/vault", passphrase="another")
    assert "the passphrase is not that of the repository" in wrong.text
    assert (await call(api.root, "PUT", "/storage/vault", encryption="none")).status_code == 400
    await api.data("PUT", "/storage/vault", passphrase=passphrase, compression="none")
    await api.data("DELETE", "/storage/vault")
    layout = api.services.rooms.layout
    assert list((layout.state / "secrets/storage").iterdir()) == []
    assert not (layout.state / "borg/vault").exists()
    again = await api.data("POST", "/storage", storage="again", type="borg", path=path, passphrase=passphrase)
    assert list(again["config"]) == ["encryption-key"]
    answer = await call(api.root, "GET", "/bastide/storage/local/key")
    assert "has no key" in answer.text


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"content": "images"}, "content"),
        ({"compression": "zstd,99"}, "compression"),
        ({"encryption": "rot13"}, "encryption"),
        ({"server": "nas.test"}, "server"),
        ({"password": "x"}, "password"),
    ],
)
async def test_what_it_cannot_be_told(tmp_path: Path, values: dict[str, str], key: str) -> None:
    api = await Api.make(tmp_path / "host", {"dir": DirStorage, "borg": BorgStorage})
    path = str(tmp_path / "vault")
    answer = await call(api.root, "POST", "/storage", storage="vault", type="borg", path=path, **values)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, [key])
    assert not (tmp_path / "vault").exists()
