"""Proxmox VE 9's privileges and the roles it is delivered with. Facts, no behaviour."""

from collections.abc import Mapping

# Each area's privileges by who gets them: `audit` looks, `user` uses, `admin` arranges, `root` endangers the host.
_AREAS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "VM": {
        "admin": (
            "VM.Allocate",
            "VM.Clone",
            "VM.Config.CPU",
            "VM.Config.Disk",
            "VM.Config.HWType",
            "VM.Config.Memory",
            "VM.Config.Network",
            "VM.Config.Options",
            "VM.GuestAgent.Unrestricted",
            "VM.Migrate",
            "VM.Replicate",
            "VM.Snapshot",
            "VM.Snapshot.Rollback",
        ),
        "user": (
            "VM.Backup",
            "VM.Config.CDROM",
            "VM.Config.Cloudinit",
            "VM.Console",
            "VM.GuestAgent.FileRead",
            "VM.GuestAgent.FileSystemMgmt",
            "VM.GuestAgent.FileWrite",
            "VM.PowerMgmt",
        ),
        "audit": ("VM.Audit", "VM.GuestAgent.Audit"),
    },
    "Sys": {
        "root": ("Permissions.Modify", "Sys.AccessNetwork", "Sys.Incoming", "Sys.Modify", "Sys.PowerMgmt"),
        "admin": ("Sys.Console", "Sys.Syslog"),
        "audit": ("Sys.Audit",),
    },
    "Datastore": {
        "admin": ("Datastore.Allocate", "Datastore.AllocateTemplate"),
        "user": ("Datastore.AllocateSpace",),
        "audit": ("Datastore.Audit",),
    },
    "SDN": {"admin": ("SDN.Allocate",), "user": ("SDN.Use",), "audit": ("SDN.Audit",)},
    "User": {"root": ("Realm.Allocate",), "admin": ("Group.Allocate", "Realm.AllocateUser", "User.Modify")},
    "Pool": {"admin": ("Pool.Allocate",), "user": ("Pool.Audit",), "audit": ("Pool.Audit",)},
    "Mapping": {"root": ("Mapping.Modify",), "user": ("Mapping.Use",), "audit": ("Mapping.Audit",)},
}


def _collect(*ranks: str, areas: tuple[str, ...] = tuple(_AREAS)) -> frozenset[str]:
    return frozenset(name for area in areas for rank in ranks for name in _AREAS[area].get(rank, ()))


PRIVILEGES = _collect("root", "admin", "user", "audit")
"""Every privilege there is."""

NO_ACCESS = "NoAccess"
"""The role that takes everything away."""

ADMINISTRATOR = "Administrator"

BUILTIN_ROLES: Mapping[str, frozenset[str]] = {
    ADMINISTRATOR: PRIVILEGES,
    NO_ACCESS: frozenset(),
    "PVEAdmin": _collect("admin", "user", "audit"),
    "PVEAuditor": _collect("audit"),
    "PVEDatastoreAdmin": _collect("admin", "user", "audit", areas=("Datastore",)),
    "PVEDatastoreUser": _collect("user", "audit", areas=("Datastore",)),
    "PVEMappingAdmin": _collect("root", "user", "audit", areas=("Mapping",)),
    "PVEMappingUser": _collect("user", "audit", areas=("Mapping",)),
    "PVEPoolAdmin": _collect("admin", "audit", areas=("Pool",)),
    "PVEPoolUser": _collect("audit", areas=("Pool",)),
    "PVESDNAdmin": _collect("admin", "user", "audit", areas=("SDN",)),
    "PVESDNUser": _collect("user", "audit", areas=("SDN",)),
    "PVESysAdmin": _collect("admin", "audit", areas=("Sys",)),
    "PVETemplateUser": frozenset({"VM.Audit", "VM.Clone"}),
    "PVEUserAdmin": _collect("admin", areas=("User",)),
    "PVEVMAdmin": _collect("admin", "user", "audit", areas=("VM",)),
    "PVEVMUser": _collect("user", "audit", areas=("VM",)),
}
"""The roles that cannot be changed."""
