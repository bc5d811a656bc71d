"""Files of a stopped container: unpacking its template and making it a guest of its own."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

from bastide.guest.lxc import packing
from bastide.guest.lxc.distro import credentials, detect, identity, seed, setup
from bastide.guest.protocol import ContainerPlan, IdMap
from bastide.host import idmap as mapping
from bastide.host.pipeline import Stage
from bastide.host.rootdir import RootDir
from bastide.model.backup import Tree


class Preparation:
    """The `Preparation` part of the engine."""

    @asynccontextmanager
    async def unpacking(self, tree: Tree, idmap: IdMap) -> AsyncIterator[Sequence[str]]:
        """While entered, the command that unpacks a tar stream from its standard input into a tree.

        tar runs as root of the guest's id range and sees the tree and the host's programs, nothing else: a member
        that is a link, an absolute name or `..` can lead nowhere, and no device node can be made. The nodes in /dev
        that every template has are left out; LXC makes the guest's own. `idmap.first` 0 is a privileged guest.
        """
        yield mapping.confined(_within(tree, idmap), _count(idmap), packing.UNPACK, writable=True)

    @contextmanager
    def packing(
        self, tree: Tree, idmap: IdMap, files: Mapping[str, bytes], exclude: Sequence[str] = ()
    ) -> Iterator[Stage]:
        """While entered, the process that writes a tree as a tar stream, confined like the one of `unpacking`."""
        argv = packing.pack(tree.mounts, exclude)
        with packing.opened(packing.members(files)) as prefix:
            confined = mapping.confined(_within(tree, idmap), _count(idmap), argv, writable=False, prefix=prefix)
            yield Stage(confined, "read", fine=packing.FINE, pass_fds=[prefix])

    def copying(
        self, source: Path, source_ids: IdMap, target: Path, target_ids: IdMap
    ) -> tuple[Sequence[str], Sequence[str]]:
        """The commands that copy a file tree, each confined like the one of `unpacking`."""
        read = mapping.confined(Tree(source, source_ids.first), _count(source_ids), packing.COPY_OUT, writable=False)
        write = mapping.confined(Tree(target, target_ids.first), _count(target_ids), packing.COPY_IN, writable=True)
        return read, write

    def following(
        self, source: Tree, target: Path, idmap: IdMap, exclude: Sequence[str] = (), rate: int = 0
    ) -> Sequence[str]:
        """The command that makes a folder like a tree by rsync(1), confined to both."""
        argv = packing.follow(source.mounts, exclude, rate)
        within = _within(source, idmap)
        return mapping.confined(Tree(target, idmap.first), _count(idmap), argv, writable=True, source=within)

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


def _within(tree: Tree, idmap: IdMap) -> Tree:
    return replace(tree, first_id=idmap.first)


def _count(idmap: IdMap) -> int:
    """How many ids there are: a privileged guest's are the host's, all of them."""
    return idmap.count if idmap.first else mapping.own_ids()
