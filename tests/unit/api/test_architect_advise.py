"""`/architect/advise`: what goes in, who may, what the document says of the answer."""

from typing import Any

import pytest

from bastide.api import architect
from bastide.api.branches import routes
from bastide.api.openapi import document
from bastide.model.advice import Advice
from bastide.model.service import Device, Kernel, Service

pytestmark = pytest.mark.anyio
ADVISE = "/architect/advise"

ADVICE = Advice.model_validate(
    {
        "name": "web", "title": "nginx", "service": "nginx", "os": "debian-12", "kind": "ct", "confidence": "high",
        "summary": "a container", "rules": [], "against": [], "unless": [], "conflicts": [], "assumed": [],
        "questions": [], "warnings": [], "settings": {}, "reasons": {}, "cost_other": None, "installs": True,
        "sizing": {"cores": 1, "memory": 2**28, "disk": 2**31, "because": {}},
        "cost": {"kind": "ct", "source": "published", "taken": "2026-01-01"},
        "command": "bastide launch nginx", "request": {"path": "/nodes/pve/lxc", "parameters": {"memory": 256}},
    }
)  # fmt: skip


@pytest.fixture
def asked(monkeypatch) -> list[tuple[Service, Any]]:
    """What the operation is asked; it answers ADVICE."""
    found = []

    async def advise_service(_rooms: Any, service: Service, *, catalog: Any = None) -> Advice:
        found.append((service, catalog))
        return ADVICE

    monkeypatch.setattr(architect, "advise_service", advise_service)
    return found


async def test_a_nested_service_arrives_as_it_is_written(api, asked) -> None:
    body = {
        "name": "blog",
        "kernel": {"own": True, "version": "5.4", "modules": ["zfs"]},
        "devices": [{"type": "gpu", "mode": "shared"}, "tun"],
        "memory": "2G",
        "live_migration": False,
        "priority": None,
    }
    answer = await api.root.post(ADVISE, json=body)
    assert answer.json() == {"data": ADVICE.model_dump(mode="json")}
    assert asked == [
        (
            Service(
                name="blog",
                kernel=Kernel(own=True, version="5.4", modules=("zfs",)),
                devices=(Device(type="gpu", mode="shared"), Device(type="tun")),
                memory="2G",
                live_migration=False,
            ),
            None,
        )
    ]


async def test_flat_keys_may_come_as_a_form_or_in_the_query(api, asked) -> None:
    await api.data("POST", f"{ADVISE}?exposure=lan", service="nginx", instances="3", nested_virtualization="1")
    await api.data("POST", ADVISE, devices=["gpu:shared", "usb:node:1a86:7523"])
    assert [one for one, _ in asked] == [
        Service(exposure="lan", service="nginx", instances=3, nested_virtualization=True),
        Service(devices=(Device(type="gpu", mode="shared"), Device(type="usb", mode="node", what="1a86:7523"))),
    ]


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"oss": "debian-12"}, {"oss": "property is not defined in schema"}),
        ({"memory": 2}, {"memory": "say the unit: 2M or 2G"}),
        ({"memory": "2"}, {"memory": "say the unit: 2M or 2G"}),
        ({"kernel": {"moduls": []}}, {"kernel": "moduls: property is not defined in schema"}),
        ({"devices": [{"type": "gpu"}, {"type": "floppy"}]}, {"devices1": "type: "}),
        ({"devices": ["gpu:loud"]}, {"devices0": "mode: "}),
        ({"name": "a b", "cores": 0}, {"name": "", "cores": "Input should be greater than or equal to 1"}),
        ({"name": "a\nb"}, {"name": "control character U+000A is not allowed"}),
        ({"kernel": {"parameters": ["a\nb"]}}, {"kernel": "parameters: control character U+000A is not allowed"}),
    ],
)
async def test_each_faulty_key_is_named(api, asked, body, errors) -> None:
    answer = await api.root.post(ADVISE, json=body)
    assert answer.status_code == 400, answer.text
    found = answer.json()["errors"]
    assert found.keys() == errors.keys()
    assert all(found[key].startswith(start) for key, start in errors.items()), found
    assert asked == []


@pytest.mark.parametrize("content", [b"[]", b"{", b"[" * 100_000, b"5", b'"x"', b"\xff"])
async def test_a_body_that_is_no_object_is_refused(api, asked, content) -> None:
    answer = await api.root.post(ADVISE, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert asked == []


async def test_any_user_may_ask_but_only_root_may_name_a_folder(api, asked) -> None:
    ada = await api.token()
    assert (await ada.post(ADVISE, json={"service": "nginx"})).status_code == 200
    refused = await ada.post(ADVISE, json={"service": "nginx", "catalog": "/etc"})
    assert refused.status_code == 403
    assert (await api.client.post(ADVISE, json={})).status_code == 401
    assert len(asked) == 1
    await api.data("POST", ADVISE, catalog="/srv/catalog")
    assert str(asked[-1][1]) == "/srv/catalog"
    assert (await api.root.post(ADVISE, json={"catalog": "etc"})).status_code == 400


async def test_names_of_images_that_can_be_built_are_told(api) -> None:
    path = "/bastide/images/buildable"
    assert {"name": "debian-12", "type": "qemu"} in await api.data("GET", path)
    found = await api.data("GET", path, name="bookworm")
    assert found == [{"name": "debian-12", "type": "lxc"}, {"name": "debian-12", "type": "qemu"}]
    assert await api.data("GET", path, name="nginx") == []


def test_the_document_describes_the_nested_body_and_the_answer() -> None:
    told = document(routes(), "0")
    post = told["paths"]["/api2/json/architect/advise"]["post"]
    schema = post["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["kernel"]["properties"]["modules"]["items"]["type"] == "string"
    data = post["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["data"]
    assert data == {"$ref": "#/components/schemas/Advice"}
    advice = told["components"]["schemas"]["Advice"]
    assert {"kind", "confidence", "rules", "unless", "sizing", "cost", "request"} <= set(advice["required"])
    for name in ("Fired", "Sizing", "Cost", "Request", "Question"):
        assert name in told["components"]["schemas"]
