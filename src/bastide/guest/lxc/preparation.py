"""Files of a stopped container: unpacking its template and making it a guest of its own."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bastide.guest.lxc.distro import credentials, detect, identity, seed, setup
from bastide.guest.protocol import ContainerPlan, IdMap
from bastide.host import idmap as mapping
from bastide.host.rootdir import RootDir

_TAR = (
    "/usr/bin/tar", "--extract", "--file=-", "--directory=/target", "--numeric-owner", "--same-owner",
    "--preserve-permissions", "--xattrs", "--xattrs-include=security.capability", "--xattrs-include=user.*",
    "--warning=no-timestamp", "--warning=no-xattr-write", "--anchored", "--exclude=./dev/*", "--exclude=dev/*",
)  # fmt: skip

_COPIED = (
    "--numeric-owner", "--acls", "--xattrs", "--xattrs-include=security.capability", "--xattrs-include=user.*",
    "--anchored", "--exclude=./dev/*", "--exclude=./lost+found",
)  # fmt: skip
_PACK = (
    "/usr/bin/tar", "--create", "--file=-", "--directory=/target", "--one-file-system", "--sparse", *_COPIED,
    "--warning=no-file-ignored", ".",
)  # fmt: skip
_UNPACK = (
    "/usr/bin/tar", "--extract", "--file=-", "--directory=/target", "--same-owner", "--preserve-permissions", *_COPIED,
    "--warning=no-timestamp",
)  # fmt: skip


class Preparation:
    """The `Preparation` part of the engine."""

    @asynccontextmanager
    async def unpacking(self, target: Path, idmap: IdMap) -> AsyncIterator[Sequence[str]]:
        """While entered, the command that unpacks a tar stream from its standard input into `target`.

        tar runs as root of the guest's id range and sees the target and the host's programs, nothing else: a member
        that is a link, an absolute name or `..` can lead nowhere, and no device node can be made. The nodes in /dev
        that every template has are left out; LXC makes the guest's own. `idmap.first` 0 is a privileged guest.
        """
        yield mapping.confined(target, idmap.first, idmap.count, _TAR)

    def copying(
        self, source: Path, source_ids: IdMap, target: Path, target_ids: IdMap
    ) -> tuple[Sequence[str], Sequence[str]]:
        """The commands that copy a file tree, each confined like the one of `unpacking`."""
        pack = mapping.confined(source, source_ids.first, source_ids.count, _PACK)
        return pack, mapping.confined(target, target_ids.first, target_ids.count, _UNPACK)

    def detect(self, rootfs: Path) -> tuple[str, str]:
        """Distribution family and architecture of a root file system."""
        with RootDir(rootfs) as root:
            return detect.distribution(root), detect.architecture(root)

    def customize(self, plan: ContainerPlan) -> None:
        """Write host name, network, DNS and time zone the way the distribution wants them."""
        with RootDir(plan.rootfs) as root:
            setup.customize(root, plan)

    def set_credentials(self, plan: ContainerPlan, password_hash: str | None, ssh_keys: str | None) -> None:
        """Write root's password hash and authorized keys."""
        with RootDir(plan.rootfs) as root:
            credentials.set_credentials(root, password_hash, ssh_keys)

    def set_identity(self, plan: ContainerPlan) -> None:
        """Give a fresh guest its own machine-id and ssh host keys."""
        with RootDir(plan.rootfs) as root:
            identity.set_identity(root)

    def seed(self, plan: ContainerPlan, texts: Mapping[str, str]) -> None:
        """Leave texts where cloud-init in the guest finds them."""
        with RootDir(plan.rootfs) as root:
            seed.write_seed(root, texts)
