"""What makes a VM itself: the UUID of its board, and the generation that tells it that it was copied."""

import uuid

from bastide.model.vm import VmOptions
from bastide.model.vm_devices import Smbios


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
