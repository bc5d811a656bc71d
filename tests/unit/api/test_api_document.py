"""The OpenAPI document: what is in a path is declared as being there."""

import re

from bastide.api.branches import routes
from bastide.api.openapi import document


def test_every_placeholder_is_a_parameter_of_the_path() -> None:
    for path, operations in document(routes(), "0")["paths"].items():
        for operation in operations.values():
            declared = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            assert declared == set(re.findall(r"\{(.+?)\}", path)), path


def test_a_property_string_tells_its_parts() -> None:
    create = document(routes(), "0")["paths"]["/api2/json/nodes/{node}/lxc"]["post"]
    schema = create["requestBody"]["content"]["application/json"]["schema"]
    interface = schema["patternProperties"][r"^net\d+$"]
    assert interface["type"] == "string"
    assert interface["x-required"] == ["name"]
    assert interface["x-properties"]["tag"] == {"type": "integer", "minimum": 1, "maximum": 4094}
    assert schema["properties"]["rootfs"]["x-default-key"] == "volume"
