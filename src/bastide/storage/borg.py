"""The storage type `borg`: backups in a repository of BorgBackup, deduplicated, compressed and encrypted.

    PATH/repository     the repository, for borg(1) to read without us
    PATH/about          small files about the archives, and marks of those that are being made
    PATH/views          hard links of the repository's files, for as long as something is read

An archive has a backup's name. `files` in it holds the guest's configuration, `root` a container's files, `disks` a
folder of segments for each disk of a VM (see `host/disk_views.py`).
"""

import asyncio
import contextlib
import json
import os
import re
import secrets as random
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from bastide.base.errors import (
    AlreadyExists,
    BastideError,
    HostFailure,
    InvalidParameter,
    NotFound,
    NotSupported,
    WrongState,
)
from bastide.base.layout import Layout
from bastide.host import borg, confine, disk_views, filesystems
from bastide.host.borg import Repository, Source
from bastide.host.bounded import Bounded
from bastide.host.pipeline import Stage
from bastide.model.backup import BackupName, DiskExport, Tree, TreeEntry
from bastide.model.storage import Content, StorageConfig, StorageUsage, Volume
from bastide.storage import secrets, sidecars
from bastide.storage.borg_files import SIZES, About, parse_sizes, write_files
from bastide.storage.folder import RUN
from bastide.storage.places import check_mounted, this_host
from bastide.storage.protocol import Capabilities, Saving

_FOLDERS = frozenset({"repository", "about", "views", "lost+found"})
_CHECKPOINT = re.compile(r"\.checkpoint(\.\d+)?$", re.ASCII)
_FEW_SEGMENTS = "fixed,4194304"
_WRITERS: dict[Path, asyncio.Lock] = {}
"""Of each repository there is one writer, whichever object of a storage whose record has changed it belongs to."""


class BorgStorage:
    """Storage, ArchiveStorage and KeepingStorage."""

    programs = ("borg", "fusermount3")

    def __init__(self, config: StorageConfig, layout: Layout) -> None:
        self.config = config
        self._path = Path(config.path or "")
        self._about = self._path / "about"
        self._host = this_host(layout)
        self._running = layout.runtime / "borg" / config.storage
        encrypted = config.encryption != "none"
        self._repository = Repository(
            self._path / "repository",
            layout.state / "borg" / config.storage,
            f"{os.uname().nodename}-{layout.instance}",
            secrets.path(layout, config.storage, "passphrase") if encrypted else None,
        )
        self._known = self._repository.base / "repository"
        self._bounded = Bounded(f"storage '{config.storage}'", place=lambda: self._path)
        self._writing = _WRITERS.setdefault(self._repository.path, asyncio.Lock())
        self._listing = asyncio.Lock()
        self._deleting = 0
        self._found: tuple[object, Sequence[borg.Found]] = (None, ())
        self._seen: tuple[object, Sequence[Volume]] = (None, ())

    @property
    def capabilities(self) -> Capabilities:
        """Backups alone."""
        return Capabilities(
            contents=self.config.contents & {"backup"},
            container_format="raw",
            enforces_size=False,
            shared=self.config.shared,
            archives=True,
        )

    async def prepare(self) -> None:
        """Make the repository where there is none yet, and let go of what a killed daemon left. Raises HostFailure.

        One that was there and is gone is not made anew.
        """
        async with self._named():
            new = await self._bounded.call(self._make_folders)
            await asyncio.to_thread(self._let_go)
            if new:
                await self._make_repository()
            seen = await asyncio.to_thread(self._identity)
            if seen != await asyncio.to_thread(lambda: self._known.read_text() if self._known.exists() else None):
                async with self._view() as view:
                    await borg.archives(view)  # the passphrase is the right one
                filesystems.make_folder(self._repository.base, 0o700)
                await asyncio.to_thread(filesystems.replace_text, self._known, seen)

    async def usage(self) -> StorageUsage:
        """Space of the file system that the repository lies on; inactive when that is missing or hangs."""
        try:
            return await self._bounded.call(self._measure, fresh=True)
        except (BastideError, OSError):
            return StorageUsage(active=False, total=0, used=0, available=0)

    async def forget(self) -> None:
        """Remove borg's caches."""
        await asyncio.to_thread(shutil.rmtree, self._repository.base, ignore_errors=True)

    async def list(self, content: Content | None = None, vmid: int | None = None) -> Sequence[Volume]:
        """Its backups. Raises HostFailure."""
        if content not in (None, "backup") or "backup" not in self.config.contents:
            return []
        return [volume for volume in await self._volumes() if vmid in (None, volume.vmid)]

    async def info(self, name: str) -> Volume:
        """One backup. Raises NotFound, InvalidParameter, HostFailure."""
        volid = f"{self.config.storage}:backup/{_parsed(name)}"
        for volume in await self._volumes():
            if volume.volid == volid:
                return volume
        raise NotFound(f"volume '{volid}' does not exist")

    async def delete(self, name: str) -> None:
        """Remove a backup; of several that are removed at a time the last one gives the space back.

        Raises WrongState when it is protected.
        """
        archive = str(_parsed(name))
        self._deleting += 1
        try:
            async with self._named(), self._writing:
                await self._tidy()
                await self._volumes()
                if self._read_about(archive).protected:
                    raise WrongState(f"can't remove protected volume '{self.config.storage}:{name}'")
                with self._forgotten(archive):
                    await borg.delete(self._repository, [archive])
                if self._deleting == 1:
                    # The backup is gone whatever becomes of this; the next time makes up for it.
                    with contextlib.suppress(BastideError):
                        await borg.compact(self._repository)
                await self._changed(lambda found: [one for one in found if one.name != archive])
        finally:
            self._deleting -= 1

    @contextlib.contextmanager
    def _forgotten(self, archive: str) -> Iterator[None]:
        """What lies beside an archive goes first: nobody would find it after that. It is back when the body fails."""
        beside = self._beside(archive)
        about = self._read_about(archive) if beside.exists() else None
        beside.unlink(missing_ok=True)
        try:
            yield
        except BaseException:
            if about is not None:
                with contextlib.suppress(BastideError, OSError):
                    filesystems.replace_text(beside, about.to_text())
            raise

    async def save_tree(self, name: str, tree: Tree, files: Mapping[str, bytes], saving: Saving) -> None:
        """Keep a container's file system. Raises AlreadyExists, NoSpace, HostFailure; then there is none."""
        parsed = _parsed(name)
        mounts = sorted(
            ((place, str(folder)) for place, folder in tree.mounts.items()), key=lambda item: item[0].split("/")
        )
        source = self._source(parsed, [confine.Shown("root", str(tree.root), mounts)])
        if tree.copied:
            # Its files are other ones each time. They are told apart by their sizes and the times that they were
            # written at, as by rsync(1), which made the copy.
            source = replace(source, unchanged="mtime,size")
        source = replace(source, first_id=tree.first_id, exclude=saving.exclude)
        async with self._saving(parsed) as place:
            folder = await asyncio.to_thread(write_files, place / "files", files)
            await self._keep(parsed, source, folder, saving.rate, _warning(saving, lambda line: "[Errno" not in line))

    async def save_disks(
        self, name: str, disks: Sequence[DiskExport], files: Mapping[str, bytes], saving: Saving
    ) -> None:
        """Keep a VM's disks. Raises AlreadyExists, NoSpace, HostFailure, NotSupported; then there are none."""
        parsed = _parsed(name)
        sizes = json.dumps({disk.key: disk.size for disk in disks}).encode()
        async with self._saving(parsed) as place:
            shown = disk_views.SegmentsOf.exports(disks, saving.rate)
            async with disk_views.segments(shown, place / "disks") as folder:
                source = replace(
                    self._source(parsed, [confine.Shown("disks", str(folder))]),
                    unchanged="mtime,size,inode",
                    chunker=_FEW_SEGMENTS,
                )
                small = await asyncio.to_thread(write_files, place / "files", {**files, SIZES: sizes})
                # Reading is slowed down where the disks are read; nothing that borg warns of is fine.
                await self._keep(parsed, source, small, 0, _warning(saving, lambda _line: False))

    async def read_file(self, name: str, file: str) -> bytes:
        """One of the small files. Raises NotFound, HostFailure."""
        archive = str(_parsed(name))
        await self.info(name)
        async with self._named(), self._view() as view:
            return await borg.read_file(view, archive, f"files/{file}")

    async def list_tree(self, name: str, path: str) -> Sequence[TreeEntry]:
        """What a folder of a container's files holds. Raises NotFound."""
        await self.info(name)
        async with self._named(), self._view() as view:
            found = await borg.entries(view, str(_parsed(name)), f"root/{path}".rstrip("/"))
        if found is None:
            raise NotFound(f"folder '/{path[:500]}' does not exist in this backup")
        return found

    @asynccontextmanager
    async def reading_tree(self, name: str, paths: Sequence[str] = ()) -> AsyncIterator[Stage]:
        """While entered, the process that writes a container's files as a tar stream. Raises NotFound."""
        archive = str(_parsed(name))
        await self.info(name)
        async with self._named(), self._view() as view:
            with borg.tar(view, archive, paths) as stage:
                yield stage

    @asynccontextmanager
    async def reading_disks(self, name: str) -> AsyncIterator[Mapping[str, Path]]:
        """While entered, a file for each disk. Raises NotFound, HostFailure, NotSupported."""
        archive = str(_parsed(name))
        await self.info(name)
        async with self._named(), AsyncExitStack() as stack:
            view = await stack.enter_async_context(self._view())
            sizes = parse_sizes(await borg.read_file(view, archive, f"files/{SIZES}"))
            place = stack.enter_context(self._place())
            mounted = await stack.enter_async_context(borg.mounted(view, archive, place / "archive"))
            yield await stack.enter_async_context(disk_views.joined(mounted / "disks", sizes, place / "joined"))

    async def annotate(self, name: str, notes: str | None = None, protected: bool | None = None) -> None:
        """Set a backup's notes (empty: none) and protection; None leaves as is. Raises NotFound."""
        await self.info(name)
        if notes is not None and len(notes.encode()) > sidecars.LIMIT // 2:
            raise InvalidParameter({"notes": f"at most {sidecars.LIMIT // 2} bytes"})

        def write() -> None:
            about = self._read_about(str(_parsed(name)))
            if notes is not None:
                about = replace(about, notes=notes or None)
            if protected is not None:
                about = replace(about, protected=protected)
            filesystems.replace_text(self._beside(str(_parsed(name))), about.to_text())

        async with self._named():
            await self._bounded.call(write)

    async def verify(self, name: str) -> None:
        """Read everything and compare its checksums. Raises HostFailure that says what is damaged, NotFound."""
        archive = str(_parsed(name))
        await self.info(name)
        async with self._named(), self._view() as view:
            await borg.read_all(view, archive)

    async def export_key(self) -> str:
        """The key, which only the passphrase opens, as text. Raises NotSupported without encryption, HostFailure."""
        if self._repository.passphrase is None:
            raise NotSupported(f"storage '{self.config.storage}' is not encrypted and has no key")
        async with self._named(), self._view() as view:
            return await borg.export_key(view)

    def _source(self, parsed: BackupName, trees: Sequence[confine.Shown]) -> Source:
        return Source(
            trees,
            cache=f"{parsed.kind}-{parsed.vmid}",
            compression=self.config.compression or "lz4",
            comment=f"{parsed.kind} {parsed.vmid} {self._host}",
        )

    @asynccontextmanager
    async def _saving(self, parsed: BackupName) -> AsyncIterator[Path]:
        """While entered, the only writer, with a folder; the backup is marked as not whole until the end."""
        mark = self._about / f"{parsed}.{self._host}.saving"
        async with self._named(), self._writing:
            await self._tidy()
            if any(volume.volid.endswith(f"/{parsed}") for volume in await self._volumes()):
                raise AlreadyExists(f"volume '{self.config.storage}:backup/{parsed}' already exists")
            await asyncio.to_thread(filesystems.replace_text, mark, "")
            with self._place() as place:
                try:
                    yield place
                except Exception:
                    with contextlib.suppress(BastideError):
                        await self._tidy()
                    raise
            await asyncio.to_thread(mark.unlink)

    async def _keep(
        self, parsed: BackupName, source: Source, folder: Path, rate: int, warned: Callable[[str], bool]
    ) -> None:
        """Run borg over the small files in a folder and the source's trees."""
        trees = [confine.Shown("files", str(folder)), *source.trees]
        name = str(parsed)
        size = await borg.create(self._repository, name, replace(source, trees=trees), rate=rate, warned=warned)
        await self._changed(lambda found: [*found, borg.Found(name, source.comment)])
        await asyncio.to_thread(filesystems.replace_text, self._beside(name), About(size).to_text())

    async def _tidy(self) -> None:
        """Undo what was cut short: locks, archives that are not whole. For the only writer. Raises HostFailure."""
        await borg.free_dead_locks(self._repository)
        marks = {mark: name for mark, name in self._marks() if mark.name.endswith(f".{self._host}.saving")}
        if not marks:
            return
        unfinished = set(marks.values())
        there = [found for found in await borg.archives(self._repository) if self._is_cut_short(found, unfinished)]
        await borg.delete(self._repository, [found.name for found in there])
        for mark, name in marks.items():
            self._beside(name).unlink(missing_ok=True)
            mark.unlink(missing_ok=True)

    def _is_cut_short(self, found: borg.Found, unfinished: Collection[str]) -> bool:
        """Whether an archive is what is left of ours: another host may have finished one of that name meanwhile.

        Borg's checkpoints, which have no comment, are whole in no case.
        """
        name = _CHECKPOINT.sub("", found.name)
        return name in unfinished and (name != found.name or found.comment.endswith(f" {self._host}"))

    def _marks(self) -> Iterator[tuple[Path, str]]:
        for mark in self._about.glob("*.saving"):
            yield mark, mark.name.partition(".")[0]

    async def _volumes(self) -> Sequence[Volume]:
        """All backups; borg is asked again when the repository has changed, by whomever."""
        async with self._named(), self._listing:
            index, beside = await self._bounded.call(self._state)
            if (index, beside) != self._seen[0]:
                if index != self._found[0]:
                    async with self._view() as view:
                        self._found = (index, await borg.archives(view))
                found = self._found[1]
                self._seen = ((index, beside), await asyncio.to_thread(lambda: [*self._described(found)]))
            return self._seen[1]

    def _state(self) -> tuple[object, object]:
        index = borg.newest(self._repository)
        with filesystems.translated(f"look into {self._about}"):
            return index, self._about.stat().st_mtime_ns

    async def _changed(self, change: Callable[[Sequence[borg.Found]], Sequence[borg.Found]]) -> None:
        """Take what we have done to the repository for its only change: to ask borg takes as long as a small backup."""
        before = self._found[1]
        self._found = (await asyncio.to_thread(borg.newest, self._repository), change(before))

    def _described(self, found: Sequence[borg.Found]) -> Iterator[Volume]:
        unfinished = {name for _, name in self._marks()}
        for archive in found:
            try:
                parsed = BackupName.parse(archive.name)
            except InvalidParameter:
                continue
            if parsed.extension or archive.name in unfinished:
                continue
            about = self._read_about(archive.name)
            yield Volume(
                volid=f"{self.config.storage}:backup/{archive.name}",
                content="backup",
                format="borg",
                size=about.size,
                ctime=parsed.time,
                vmid=parsed.vmid,
                notes=about.notes,
                protected=about.protected,
                subtype=parsed.kind,
            )

    def _beside(self, archive: str) -> Path:
        return self._about / f"{archive}.json"

    def _read_about(self, archive: str) -> About:
        text = sidecars.read(self._about / archive, ".json")
        return About(protected=True) if text is None and self._beside(archive).exists() else About.read(text)

    @asynccontextmanager
    async def _view(self) -> AsyncIterator[Repository]:
        async with borg.viewed(self._repository, self._path / "views" / f"{self._host}.{RUN}.{_word()}") as view:
            yield view

    @contextlib.contextmanager
    def _place(self) -> Iterator[Path]:
        """A folder for the moment, on this host."""
        place = self._running / RUN / _word()
        place.mkdir(mode=0o700, parents=True)
        try:
            yield place
        finally:
            disk_views.release(place)
            shutil.rmtree(place, ignore_errors=True)

    @asynccontextmanager
    async def _named(self) -> AsyncIterator[None]:
        """Failures of the host in here name the storage."""
        try:
            yield
        except HostFailure as failure:
            name = f"storage '{self.config.storage}'"
            if name not in str(failure):
                failure.args = (f"{name}: {failure}",)
            raise

    def _identity(self) -> str:
        """What has been found to go together: the repository and the passphrase, by when it was written."""
        secret = self._repository.passphrase
        written = secret.stat().st_mtime_ns if secret is not None and secret.exists() else 0
        return f"{self._repository.path} {written}\n"

    def _make_folders(self) -> bool:
        """Make what is missing; whether the repository is."""
        check_mounted(self.config, self._path)
        if not self._path.is_dir():
            if not (self.config.mkdir and self.config.create_base_path) or self._known.exists():
                raise HostFailure(f"unable to activate storage: directory '{self._path}' does not exist")
            filesystems.make_folder(self._path, 0o700)
        strange = {name for name in os.listdir(self._path) if name not in _FOLDERS and not name.startswith(".new-")}
        if strange:
            raise HostFailure(f"{self._path} holds something else: '{min(strange)[:80]}'; give an empty folder")
        there = self._repository.path.is_dir()
        if not there and self._known.exists():
            raise HostFailure(f"the repository {self._repository.path} is gone: is its disk mounted?")
        for name in ("about", "views"):
            filesystems.make_folder(self._path / name, 0o700)
        return not there

    async def _make_repository(self) -> None:
        """Whole or not at all."""
        new = self._path / f".new-{self._host}"
        await asyncio.to_thread(shutil.rmtree, new, ignore_errors=True)
        try:
            await borg.init(replace(self._repository, path=new), self.config.encryption or "repokey-blake2")
            await asyncio.to_thread(new.rename, self._repository.path)
            await asyncio.to_thread(filesystems.sync_folder, self._path)
        finally:
            await asyncio.to_thread(shutil.rmtree, new, ignore_errors=True)

    def _let_go(self) -> None:
        """Unmount and remove what daemons that have ended were reading."""
        for folder in self._running.glob("*"):
            if folder.name != RUN:
                disk_views.release(folder)
                shutil.rmtree(folder, ignore_errors=True)
        for view in (self._path / "views").glob(f"{self._host}.*"):
            if not view.name.startswith(f"{self._host}.{RUN}."):
                shutil.rmtree(view, ignore_errors=True)

    def _measure(self) -> StorageUsage:
        check_mounted(self.config, self._path)
        if not self._repository.path.is_dir():
            raise HostFailure(f"the repository {self._repository.path} is gone")
        total, used, available = filesystems.space(self._path)
        return StorageUsage(active=True, total=total, used=used, available=available, allocated=0)


def _parsed(name: str) -> BackupName:
    """A backup's name. Raises InvalidParameter."""
    parsed = BackupName.parse(name)
    if parsed.extension or not name.startswith("backup/"):
        raise InvalidParameter({"volume": f"'{name[:200]}' is not the name of a backup here"})
    return parsed


def _warning(saving: Saving, fine: Callable[[str], bool]) -> Callable[[str], bool]:
    """What borg warns of goes to the log."""

    def warned(line: str) -> bool:
        saving.log(f"WARN: {line}")
        return fine(line)

    return warned


def _word() -> str:
    return random.token_hex(4)
