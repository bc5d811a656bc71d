"""The storage type `dir`: a folder, laid out as Proxmox VE lays it out.

    template/cache  template/iso  dump  snippets  import      plain files
    images/<vmid>/vm-<vmid>-disk-<n>.subvol                   a container's file system as a folder
    images/<vmid>/vm-<vmid>-disk-<n>.raw                      the same in a sparse ext4 image, mounted while in use
    images/<vmid>/vm-<vmid>-disk-<n>.{raw,qcow2,vmdk}         a VM's disk (`folder_disks.py`)
    .incoming  .trash                                         files on their way in and out

Whatever holds guests' files is closed to the host's users: a setuid program in there is not theirs to run.
"""

from bastide.storage.folder_storage import FolderStorage


class DirStorage(FolderStorage):
    """A folder of the host's."""
