"""What cloud-init in a container is told: files in the folder where its NoCloud data source looks first.

Source: cloud-init's documentation of the NoCloud data source.
"""

from collections.abc import Mapping

from bastide.base.errors import WrongState
from bastide.host.rootdir import RootDir

FOLDER = "var/lib/cloud/seed/nocloud"
_PROGRAMS = ("usr/bin/cloud-init", "usr/local/bin/cloud-init", "bin/cloud-init")


def write_seed(root: RootDir, texts: Mapping[str, str]) -> None:
    """Write the texts by their file names, for root alone. Raises WrongState when no cloud-init would read them."""
    if not any(root.is_file(program) for program in _PROGRAMS):
        raise WrongState("there is no cloud-init in the container to read its user data")
    root.mkdir(FOLDER, 0o700)
    for name, text in texts.items():
        root.write(f"{FOLDER}/{name}", text, mode=0o600)
