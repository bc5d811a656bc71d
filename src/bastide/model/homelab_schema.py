"""The JSON schema of homelab.yaml, made from the records: `bastide plan --schema`, docs/homelab.schema.json."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bastide.model.homelab import Homelab

_ABOUT: Mapping[str, str] = MappingProxyType(
    {
        "name": "host name of the guest, or the plan's name",
        "service": "an entry of the catalog: bastide catalog",
        "os": "operating system: debian-12, windows-server-2022, freebsd-14 ...",
        "exposure": "who reaches it",
        "isolation": "absolute: nothing may get out of it",
        "tenants": "untrusted: its users do not trust each other",
        "untrusted_code": "whether it runs code of strangers",
        "kernel": "what it asks of the kernel; any of it means a VM",
        "engine": "a container engine that runs inside",
        "appliance": "whether it exists only as a disk image or an installer",
        "devices": "hardware that it uses",
        "live_migration": "whether it must move between hosts without a pause",
        "nfs": "whether it mounts or serves NFS",
        "nested_virtualization": "whether VMs run inside",
        "instances": "how many guests: name-1, name-2 ...",
        "ephemeral": "whether it is made and thrown away",
        "priority": "what matters most",
        "kind": "overrules the architect: ct or vm",
        "cores": "processor cores",
        "memory": "such as 512M or 2G",
        "disk": "such as 8G; may grow later",
        "image": "a name, a volume id or a URL; default: what os means",
        "storage": "where its volumes are",
        "network": "its first interface; default: DHCP on the NAT bridge",
        "mounts": "more space, or folders of the host",
        "user_data": "cloud-init user data",
        "ssh_keys": "public keys of root, or of the image's user",
        "after": "services that must answer first",
        "tags": "tags of the guests, beside the plan's name",
        "onboot": "whether it starts with the host; default: what the architect advises",
        "services": "the services of the plan",
        "version": "of this format",
    }
)


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of homelab.yaml, for editors: with a sentence for each key."""
    made = _plain(Homelab.model_json_schema())
    parts = made["$defs"]
    parts["Device"] = {"anyOf": [{"type": "string", "pattern": "^[a-z]+(:[a-z]*(:.*)?)?$"}, parts["Device"]]}
    parts["Kernel"]["properties"]["version"]["type"] = ["string", "number"]  # as YAML reads 5.4
    del parts["PlannedService"]["properties"]["network"]["default"]
    for properties in (made["properties"], parts["PlannedService"]["properties"]):
        for key, value in properties.items():
            value["description"] = _ABOUT[key]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "homelab.yaml of Bastide"}
    return {**head, **made}


def _plain(node: Any) -> Any:
    """The schema without titles, and without `null` beside every type."""
    if isinstance(node, list):
        return [_plain(part) for part in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _plain(value) for key, value in node.items() if key != "title" or not isinstance(value, str)}
    if "anyOf" in plain:
        kinds = [part for part in plain.pop("anyOf") if part != {"type": "null"}]
        plain |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
        if plain.get("default", 0) is None:
            del plain["default"]
    if isinstance(plain.get("description"), str):
        plain["description"] = " ".join(plain["description"].split())
    return plain
