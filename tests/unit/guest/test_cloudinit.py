"""The configuration drive against golden files, against values that try to become YAML, and against another reader.

`BASTIDE_GOLDEN=write pytest tests/unit/guest/test_cloudinit.py` writes the golden files anew.
"""

import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pycdlib
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import InvalidParameter
from bastide.guest.cloudinit import Form, Seed, SeedNic, documents, iso, network_config

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "cloudinit"
MAC = "BC:24:11:00:00:01"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHtest someone@example.org"
HASH = "$5$salt$abcdefghijklmnopqrstuvwxyz./0123456789ABCDE"
FULL = Seed(
    hostname="db",
    fqdn="db.example.org",
    user="admin",
    password_hash=HASH,
    ssh_keys=(KEY, KEY.replace("ed25519", "rsa")),
    nics=(
        SeedNic(0, MAC, ip="192.0.2.5/24", gw="192.0.2.1", ip6="2001:db8::5/64", gw6="fe80::1"),
        SeedNic(1, "bc:24:11:00:00:02", ip="dhcp", ip6="auto"),
        SeedNic(3, "bc:24:11:00:00:03", ip="manual", ip6="dhcp"),
    ),
    nameservers=("192.0.2.53", "2001:db8::53"),
    searchdomains=("example.org", "lan"),
)

CASES: dict[str, tuple[Form, Seed]] = {
    "smallest": ("nocloud", Seed("db")),
    "dhcp": ("nocloud", Seed("db", nics=(SeedNic(0, MAC),), upgrade=False)),
    "root": ("nocloud", Seed("db", user="root", password_hash=HASH)),
    "full": ("nocloud", FULL),
    "texts": (
        "nocloud",
        Seed(
            "db", user_data="#!/bin/sh\necho hi\n", network_data="version: 2\n", vendor_data="v\n", meta_data="m: 1\n"
        ),
    ),
    "windows": ("configdrive2", replace(FULL, password="S3cret!", user="Administrator", instance_id="i-1")),
}

lines = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=60)
nasty = lines | st.sampled_from(
    [
        "a: b",
        "# no",
        "{{ x }}",
        "'",
        '"',
        "no",
        "~",
        "1e3",
        "- x",
        "!!python/object:os.system",
        "%Y",
        "&a *a",
        "\\",
        "|",
    ]
)


def shown(name: str) -> str:
    form, seed = CASES[name]
    return "".join(f"--- {path}\n{text}" for path, text in sorted(documents(seed, form).items()))


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("BASTIDE_GOLDEN") == "write":
        path.write_text(shown(name))
    assert shown(name) == path.read_text()


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*")} == set(CASES)


@given(hostname=nasty, user=nasty, secret=nasty, keys=st.lists(nasty, max_size=3), domain=nasty)
def test_any_value_stays_that_value(hostname: str, user: str, secret: str, keys: list[str], domain: str) -> None:
    seed = Seed(
        hostname,
        fqdn=domain,
        user=user,
        password_hash=secret,
        password=secret,
        ssh_keys=keys,
        nameservers=(domain,),
        searchdomains=(domain,),
    )
    texts = documents(seed)
    user_data = texts["user-data"]
    assert user_data.startswith("#cloud-config\n")
    read = yaml.safe_load(user_data)
    assert (read["hostname"], read["fqdn"], read["user"], read["password"]) == (hostname, domain, user, secret)
    assert read.get("ssh_authorized_keys", []) == keys
    assert set(read) <= {
        *("hostname", "manage_etc_hosts", "fqdn", "user", "disable_root", "password", "ssh_authorized_keys"),
        *("chpasswd", "ssh_pwauth", "users", "package_upgrade"),
    }
    network = yaml.safe_load(texts["network-config"])
    assert network["config"] == [{"type": "nameserver", "address": [domain], "search": [domain]}]
    assert yaml.safe_load(texts["meta-data"])["local-hostname"] == hostname
    drive = documents(seed, "configdrive2")
    meta = json.loads(drive["openstack/latest/meta_data.json"])
    assert (meta["hostname"], meta["admin_pass"]) == (hostname, secret)
    assert list(meta.get("public_keys", {}).values()) == keys


@pytest.mark.parametrize(
    "change",
    [{"hostname": "other"}, {"password_hash": "$5$x$y"}, {"nics": ()}, {"nameservers": ()}, {"vendor_data": "x"}],
)
def test_a_change_makes_another_instance(change: dict[str, Any]) -> None:
    before = yaml.safe_load(documents(FULL)["meta-data"])["instance-id"]
    assert yaml.safe_load(documents(FULL)["meta-data"])["instance-id"] == before
    assert yaml.safe_load(documents(replace(FULL, **change))["meta-data"])["instance-id"] != before


@pytest.mark.parametrize(
    "nic",
    [
        SeedNic(0, MAC, ip="192.0.2.5"),
        SeedNic(0, MAC, ip="2001:db8::5/64"),
        SeedNic(0, MAC, ip="nonsense"),
        SeedNic(0, MAC, ip="192.0.2.5/24", gw="fe80::1"),
        SeedNic(0, MAC, ip6="192.0.2.5/24"),
        SeedNic(0, MAC, ip6="2001:db8::5/64", gw6="gw"),
    ],
)
def test_faulty_addresses_are_refused(nic: SeedNic) -> None:
    for form in ("nocloud", "configdrive2"):
        with pytest.raises(InvalidParameter, match="ipconfig0"):
            documents(Seed("db", nics=(nic,)), form)  # type: ignore[arg-type]


def test_addresses_of_one_family_ask_for_no_other() -> None:
    read = yaml.safe_load(network_config(Seed("db", nics=(SeedNic(0, MAC, ip6="auto"),))))
    assert read["config"][0]["subnets"] == [{"type": "ipv6_slaac"}]
    read = yaml.safe_load(network_config(Seed("db", nics=(SeedNic(0, MAC, ip="manual", ip6="manual"),))))
    assert read["config"][0]["subnets"] == [{"type": "manual"}]


@pytest.mark.parametrize("name", CASES)
def test_the_image_is_read_by_another_reader(name: str) -> None:
    form, seed = CASES[name]
    texts = documents(seed, form)
    data = iso(texts, form)
    assert read_iso(data) == ("config-2" if form == "configdrive2" else "cidata", texts_as_bytes(texts))


def texts_as_bytes(texts: dict[str, str]) -> dict[str, bytes]:
    return {path: text.encode() for path, text in texts.items()}


def read_iso(data: bytes) -> tuple[str, dict[str, bytes]]:
    """The label and the files of an image by their Joliet names, read by pycdlib."""
    image = pycdlib.PyCdlib()
    image.open_fp(io.BytesIO(data))
    found = {}
    for folder, _, files in image.walk(joliet_path="/"):
        for file in files:
            path = f"{folder.rstrip('/')}/{file}"
            target = io.BytesIO()
            image.get_file_from_iso_fp(target, joliet_path=path)
            found[path.removeprefix("/")] = target.getvalue()
    label = image.pvd.volume_identifier.decode().rstrip()
    image.close()
    return label, found
