"""What makes a VM itself: the UUID of its board, and the generation that tells it that it was copied."""

import uuid

from bastide.model.vm import VmOptions
from bastide.model.vm_devices import Smbios
from bastide.operations.interfaces import random_hwaddr

RENEWED_INSIDE = """\
#cloud-config
bootcmd:
- [cloud-init-per, instance, bastide-machine-id, /bin/sh, -c,
   "rm -f /etc/machine-id /var/lib/dbus/machine-id && systemd-machine-id-setup"]
"""
"""What cloud-init in a copy does at its first boot beside what it does in every new instance (ssh host keys)."""


def with_identity(options: VmOptions) -> VmOptions:
    """The options of a new VM with a UUID and a generation of its own, unless they were given."""
    smbios = options.smbios1 or Smbios()
    if smbios.uuid is None:
        smbios = smbios.model_copy(update={"uuid": str(uuid.uuid4())})
    return with_vmgenid(options.model_copy(update={"smbios1": smbios, "vmgenid": options.vmgenid or "1"}))


def with_vmgenid(options: VmOptions) -> VmOptions:
    """The options with a generation where one was asked to be made (`1`)."""
    if options.vmgenid != "1":
        return options
    return options.model_copy(update={"vmgenid": str(uuid.uuid4())})


def with_new_identity(options: VmOptions) -> VmOptions:
    """The options of a copy: another UUID, generation and hardware address than what it was made of."""
    smbios = (options.smbios1 or Smbios()).model_copy(update={"uuid": str(uuid.uuid4())})
    changes: dict[str, object] = {"smbios1": smbios}
    changes["net"] = {index: nic.model_copy(update={"macaddr": random_hwaddr()}) for index, nic in options.net.items()}
    if options.vmgenid not in (None, "0"):
        changes["vmgenid"] = str(uuid.uuid4())
    return options.model_copy(update=changes)
