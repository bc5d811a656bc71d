"""Container options: what callers write becomes a record, and the record writes the same again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import InvalidParameter
from bastide.model.container import ContainerConfig

FULL = {
    "hostname": "web",
    "memory": "1024",
    "onboot": "yes",
    "rootfs": "local:8",
    "mp0": "mp=/srv,volume=local:2,ro=on",
    "net0": "bridge=vmbr0,name=eth0,ip=10.0.0.5/24,gw=10.0.0.1,hwaddr=02:00:00:00:00:0a,firewall=1",
    "features": "nesting=1,keyctl=true",
    "dev0": "/dev/dri/renderD128,mode=0660",
    "startup": "3,up=10",
    "description": "two\nlines",
    "env": "A=b c\0D=e",
    "tags": "Web, prod web",
    "nameserver": "1.1.1.1;9.9.9.9",
}


def test_text_form() -> None:
    text = ContainerConfig.parse(FULL).to_text()
    assert text["mp0"] == "local:2,ro=1,mp=/srv"
    assert text["net0"] == "name=eth0,bridge=vmbr0,firewall=1,gw=10.0.0.1,hwaddr=02:00:00:00:00:0A,ip=10.0.0.5/24"
    assert text["features"] == "keyctl=1,nesting=1"
    assert text["tags"] == "web;prod"
    assert text["onboot"] == 1
    assert text["startup"] == "3,up=10"
    assert ContainerConfig.parse(text).to_text() == text


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("hostname", "a_b", "DNS name"),
        ("hostname", "x\nlxc.hook.start=/bin/sh", "U+000A"),
        ("description", "a\x1bb", "U+001B"),
        ("description", "a\u2028b", "U+2028"),
        ("net0", "bridge=vmbr0", "name"),
        ("net0", "name=eth0,ip=10.0.0.5", "prefix"),
        ("net0", "name=eth0,hwaddr=01:00:00:00:00:00", "unicast"),
        ("net0", "name=a/b", "name"),
        ("net32", "name=eth0", "not defined"),
        ("net", "name=eth0", "net0"),
        ("mp0", "local:1,mp=/a/../b", "absolute path"),
        ("mp0", "local:1,mp=relative", "absolute path"),
        ("mp0", "/etc/../root,mp=/x", "absolute path"),
        ("rootfs", "local:1,mountoptions=suid", "mountoptions"),
        ("dev0", "/etc/shadow", "path"),
        ("dev0", "/dev/../etc/shadow", "absolute path"),
        ("memory", "15", "16"),
        ("memory", "lots", "whole number"),
        ("unprivileged", "maybe", "1 or 0"),
        ("features", "fly=1", "not defined"),
        ("entrypoint", "sh", "whole path"),
        ("env", "A=b\nC", "U+000A"),
        ("nonsense", "1", "not defined"),
        ("tags", "a/b", "invalid tag"),
    ],
)
def test_refuses_and_names(key: str, value: str, why: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        ContainerConfig.parse({key: value})
    assert list(caught.value.errors) == [key]
    assert why in caught.value.errors[key]


def test_names_every_faulty_parameter() -> None:
    with pytest.raises(InvalidParameter) as caught:
        ContainerConfig.parse({"memory": "x", "cores": 0, "bad": 1})
    assert set(caught.value.errors) == {"memory", "cores", "bad"}


def test_refuses_two_of_a_name() -> None:
    with pytest.raises(InvalidParameter, match="named 'eth0'"):
        ContainerConfig.parse({"net0": "name=eth0", "net1": "name=eth0"})


@given(st.sampled_from(sorted(ContainerConfig.model_fields)), st.text(max_size=40))
def test_no_value_survives_with_a_line_end(key: str, value: str) -> None:
    try:
        text = ContainerConfig.parse({key: value}).to_text()
    except InvalidParameter:
        return
    for name, kept in text.items():
        if name != "description":
            assert not set(str(kept)) & set("\n\r\x0b\x0c\x85\u2028\u2029"), (name, kept)
