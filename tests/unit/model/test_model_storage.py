"""Storages' records: which type has which keys, and values that a storage cannot have."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import InvalidParameter
from bastide.model.storage import TYPES, PruneBackups, StorageConfig

NEEDED = {
    "path": "/srv/x", "server": "nas", "export": "/srv/x", "share": "media", "vgname": "vg", "thinpool": "thin",
    "pool": "tank/data", "portal": "192.0.2.1:3260", "target": "iqn.2003-01.org.example:disk",
}  # fmt: skip


def values(kind: str, **more: Any) -> dict[str, Any]:
    needed = TYPES[kind].needed  # type: ignore[index]
    return {"storage": "s1", "type": kind, **{key: NEEDED[key] for key in needed}, **more}


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_a_type_has_its_keys_alone_and_comes_back_from_its_text(kind: str) -> None:
    config = StorageConfig.parse(values(kind))
    assert config.content == TYPES[config.type].default
    assert config.shared == TYPES[config.type].shared
    assert StorageConfig.parse(config.to_text()) == config
    for key in TYPES[config.type].needed:
        with pytest.raises(InvalidParameter, match=f"{key}: property is missing"):
            StorageConfig.parse({name: value for name, value in values(kind).items() if name != key})
    strange = "thinpool" if kind != "lvmthin" else "share"
    with pytest.raises(InvalidParameter, match=f"{strange}: storage type '{kind}' has no such property"):
        StorageConfig.parse(values(kind, **{strange: "xx"}))
    for secret in ("password", "keyring"):
        with pytest.raises(InvalidParameter, match=secret):
            StorageConfig.parse(values(kind, **{secret: "xx"}))


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("dir", "path", "relative"),
        ("dir", "path", "/a/../b"),
        ("dir", "path", "/a,b"),
        ("dir", "content-dirs", "iso=../x"),
        ("dir", "content-dirs", "iso=/"),
        ("dir", "content-dirs", "iso=.incoming"),
        ("dir", "content-dirs", "rootdir=x"),
        ("dir", "content-dirs", "iso=a,iso=b"),
        ("dir", "prune-backups", "keep-all=1,keep-last=2"),
        ("dir", "prune-backups", "keep-last=-1"),
        ("dir", "prune-backups", "keep-often=1"),
        ("dir", "max-protected-backups", "-2"),
        ("dir", "bwlimit", "clone=-1"),
        ("dir", "bwlimit", "copy=1"),
        ("nfs", "server", "-o"),
        ("nfs", "server", "a b"),
        ("nfs", "export", "srv"),
        ("nfs", "options", "soft,suid"),
        ("nfs", "options", "soft dev"),
        ("nfs", "options", "a=b;c"),
        ("cifs", "options", "vers=3,credentials=/etc/shadow"),
        ("cifs", "options", "PASSWORD=x"),
        ("cifs", "share", "-x"),
        ("cifs", "share", "a/b"),
        ("cifs", "subdir", "/a/../b"),
        ("cifs", "username", "a,uid=0"),
        ("cifs", "smbversion", "1.0"),
        ("cephfs", "monhost", "192.0.2.1,-x"),
        ("cephfs", "content", "rootdir"),
        ("lvm", "vgname", "-vg"),
        ("lvm", "saferemove-stepsize", "3"),
        ("zfspool", "pool", "tank/../x"),
        ("iscsi", "target", "disk"),
        ("iscsi", "portal", "192.0.2.1:99999"),
    ],
)
def test_what_a_storage_cannot_have_is_refused_by_its_key(kind: str, key: str, value: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        StorageConfig.parse(values(kind, **{key: value}))
    assert list(caught.value.errors) == [key]


def test_limits_are_told_by_the_kind_of_work() -> None:
    config = StorageConfig.parse(values("dir", bwlimit="default=1000,clone=0,move=512.5"))
    assert config.bwlimit is not None
    assert [config.bwlimit.of(work) for work in ("restore", "clone", "move")] == [1000, 0, 512.5]  # type: ignore[arg-type]
    assert config.to_text()["bwlimit"] == "default=1000,clone=0,move=512.5"


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [("bwlimit", "clone=fast", "clone: expected a number"), ("path", "srv", "whole path"), ("mkdir", "maybe", "1 or 0"),
     ("storage", "x", "2 to 100 characters"), ("max-protected-backups", "many", "whole number")],
)  # fmt: skip
def test_values_of_the_wrong_kind(key: str, value: str, told: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        StorageConfig.parse(values("dir") | {key: value})
    assert told in caught.value.errors[key]


def test_the_number_of_blocks_is_a_number() -> None:
    assert StorageConfig.parse(values("lvm", **{"saferemove-stepsize": "16"})).to_text()["saferemove-stepsize"] == 16


def test_places_are_the_same_however_they_are_written() -> None:
    assert StorageConfig.parse(values("dir", path="/srv//x/")).place == StorageConfig.parse(values("dir")).place
    assert StorageConfig.parse(values("dir")).place == StorageConfig.parse(values("btrfs")).place
    assert (
        StorageConfig.parse(values("cifs", subdir="/a/")).place == StorageConfig.parse(values("cifs", subdir="a")).place
    )
    assert StorageConfig.parse(values("cifs", subdir="a")).place != StorageConfig.parse(values("cifs")).place
    assert StorageConfig.parse(values("lvm")).place != StorageConfig.parse(values("lvmthin")).place


COUNTS = st.dictionaries(
    st.sampled_from(["keep-last", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly"]),
    st.integers(0, 1000),
    min_size=1,
)


@given(COUNTS)
def test_what_is_kept_comes_back_from_its_text(counts: dict[str, int]) -> None:
    text = ",".join(f"{key}={count}" for key, count in counts.items())
    kept = PruneBackups.parse({key: str(count) for key, count in counts.items()})
    config = StorageConfig.parse(values("dir", **{"prune-backups": text}))
    assert config.prune_backups == kept
    assert StorageConfig.parse(config.to_text()) == config


@given(st.text(max_size=40))
def test_no_mount_option_smuggles_another(text: str) -> None:
    try:
        config = StorageConfig.parse(values("nfs", options=text))
    except InvalidParameter:
        return
    assert config.options == text
    assert not set(text) & set(" \t\n\\\"';")
    assert not {option.partition("=")[0].lower() for option in text.split(",")} & {"suid", "dev", "credentials"}
