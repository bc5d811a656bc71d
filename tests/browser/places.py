"""The places of the page: where each is, and the heading by which one knows to be there."""

GUEST_TABS = [
    "summary",
    "console",
    "hardware",
    "options",
    "network",
    "cloudinit",
    "snapshots",
    "backups",
    "notes",
    "permissions",
    "tasks",
]

PLACES = {
    "/": "Overview",
    "/storage": "Storage",
    "/storage/local": "local",
    "/images": "Images",
    "/disks": "Disks",
    "/backups": "Backups",
    "/backups/jobs": "Backups",
    "/architect": "What do you want to run?",
    "/architect/catalog/nginx": "nginx",
    "/architect/plan": "Plan",
    "/architect/capacity": "Capacity",
    "/architect/review": "Review",
    "/architect/compare": "Compare",
    "/pools": "Pools",
    "/access": "Users",
    "/access/tokens": "API tokens",
    "/access/groups": "Groups",
    "/access/roles": "Roles",
    "/access/realms": "Realms",
    "/access/audit": "Audit log",
    "/access/permissions": "Permissions",
    "/tasks": "Tasks",
    "/create/ct": "Create CT",
    "/create/vm": "Create VM",
    "/nowhere": "Not found",
}


def guest_places(vmid: int, name: str) -> dict[str, str]:
    """The places of a guest."""
    return {f"/guests/{vmid}/{tab}": name for tab in GUEST_TABS}
