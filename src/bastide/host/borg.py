"""BorgBackup: the one caller of borg(1).

Secrets go in by descriptor, places by the environment, so that no file of root's own is used. What only reads does so
in a view of the repository (`viewed`), which nobody locks and no compaction takes anything away from.

Sources: borg(1), borg-create(1), borg-patterns(1); the environment variables and exit codes in borg's manual.
"""

import asyncio
import contextlib
import datetime
import json
import os
import re
import shutil
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bastide.base.errors import AlreadyExists, BastideError, HostFailure, NoSpace, NotFound, RunError
from bastide.base.units import MIB, readable
from bastide.host import confine, filesystems, idmap
from bastide.host.pipeline import Stage
from bastide.host.run import Completed, kill_group, last_words, run, spawn
from bastide.model.backup import TreeEntry

Encryption = Literal["repokey-blake2", "none"]

PROGRAM = "/usr/bin/borg"
FOLDERS = ("files", "root", "disks")
"""The folders at the top of an archive: the guest's configuration, a container's files, a VM's disks."""

_SOURCE = str(Path(__file__).parents[2])
_CONFINE = "import sys; sys.path.insert(0, sys.argv.pop(1)); from bastide.host.confine import main; main()"
_TAR = "import sys; sys.path.insert(0, sys.argv.pop(1)); from bastide.host.borg_tar import main; main()"
_LOCK_WAIT = 600
_SEGMENT = 128 * MIB
_KEPT_FREE = 3 * _SEGMENT
"""Borg takes no change, not even a removal, when a segment and more would not fit; and what it has half written when a
disk is full it takes for an error of the file that it was reading, so that a damaged segment stays."""
_IDS = 65536
_FOR_EVER = 14 * 24 * 3600.0
_SMALL, _LISTED = 2 * MIB, 64 * MIB
_PERIOD = 0.2
_LOCK_NAME = re.compile(r"(?P<host>.+)\.(?P<pid>\d+)-\d+")
_SECRET_PLACE = "BORG_PASSPHRASE_FD"  # noqa: S105 - the name of a variable
_BORG_COMMAND = re.compile(rb"(^|/)borg(\0|$)")
_LINKED_FIRST = ("config", "README", "nonce")


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository: its folder, one for caches and locks' names, and the file with the passphrase, None without one.

    `host` tells the locks of this host from those of others that use the repository.
    """

    path: Path
    base: Path
    host: str
    passphrase: Path | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """An archive in a repository. `comment` is what `create` was given."""

    name: str
    comment: str


@dataclass(frozen=True, slots=True)
class Source:
    """What an archive is made of: folders by the names of `FOLDERS`, in this order.

    The trees' owners are those from `first_id` on. `cache` is a word that tells whose files they are, so that each
    guest has a files cache of its own; `unchanged` is what tells that a file is the one that was seen the last time.
    """

    trees: Sequence[confine.Shown]
    cache: str
    first_id: int = 0
    unchanged: str = "ctime,size,inode"
    compression: str = "lz4"
    chunker: str | None = None
    exclude: Sequence[str] = ()
    comment: str = ""


async def init(repository: Repository, encryption: Encryption) -> None:
    """Make a repository. Raises HostFailure."""
    await _run(repository, ["init", "--encryption", encryption, "--make-parent-dirs", str(repository.path)])
    await _run(repository, ["config", str(repository.path), "max_segment_size", str(_SEGMENT)])


async def create(
    repository: Repository, name: str, source: Source, *, rate: int = 0, warned: Callable[[str], bool]
) -> int:
    """Keep folders as an archive; how many bytes their files have. They are read in a namespace of borg's own.

    `rate` in bytes a second, 0 for no limit. `warned` gets what borg warns of, and says whether that is fine; else, the
    archive being there, HostFailure is raised. Raises AlreadyExists, NoSpace, HostFailure.
    """
    if source.first_id and not await idmap.supported(repository.path):
        raise HostFailure(
            f"the file system of {repository.path} cannot be shown with mapped owners, which takes ext4, xfs or btrfs"
        )
    filesystems.make_folder(repository.base, 0o700)
    trees = [
        *source.trees,
        confine.Shown("repository", str(repository.path), writable=True),
        confine.Shown("cache", str(repository.base), writable=True),
    ]
    inside = replace(repository, path=Path("/repository"), base=Path("/cache"))
    # Flags of chattr(1) are nothing that a container can keep or a tar stream can hold.
    options = [
        "--numeric-ids",
        "--noflags",
        "--json",
        "--files-cache",
        source.unchanged,
        "--compression",
        source.compression,
    ]
    options += ["--chunker-params", source.chunker] if source.chunker else []
    options += ["--comment", source.comment] if source.comment else []
    # What a disk's segments cannot have need not be asked for each.
    options += ["--noxattrs", "--noacls"] if any(tree.name == "disks" for tree in source.trees) else []
    for pattern in _patterns(source.exclude):
        options += ["--exclude", pattern]
    with _passphrase(repository) as secret:
        variables = _environment(
            inside, secret, {"BORG_FILES_CACHE_SUFFIX": source.cache, "TMPDIR": "/cache", "LOGNAME": "root"}
        )
        command = ["/usr/bin/env", *(f"{key}={value}" for key, value in variables.items()), PROGRAM, *_LOGGING]
        command += ["create", *options, f"/repository::{name}", *(tree.name for tree in source.trees)]
        work = confine.Work(source.first_id, _IDS, trees)
        argv = [sys.executable, "-I", "-S", "-c", _CONFINE, _SOURCE, str(os.getpid()), work.to_json()]
        argv += ["/usr/bin/unshare", "--net", "--", *_NICE, *command]
        done = await _limited(argv, secret, rate, repository.path)
    _check(done, name)
    bad = [line for line in map(_plain, _warnings(done.stderr)) if not warned(line)]
    if any("[Errno 28]" in line or "[Errno 122]" in line for line in bad):
        raise NoSpace(f"the disk of {repository.path} is full")
    if bad:
        raise HostFailure(f"not everything could be read: {bad[0]}")
    try:
        return int(json.loads(done.stdout)["archive"]["stats"]["original_size"])
    except (ValueError, KeyError, TypeError) as error:
        raise HostFailure(f"borg told nothing of the archive '{name}'") from error


async def archives(repository: Repository) -> list[Found]:
    """What is in a repository, oldest first. Raises HostFailure."""
    options = ["list", "--json", "--format", "{comment}", "--consider-checkpoints", str(repository.path)]
    done = await _run(repository, options)
    try:
        return [Found(str(item["name"]), str(item["comment"])) for item in json.loads(done.stdout)["archives"]]
    except (ValueError, KeyError, TypeError) as error:
        raise HostFailure(f"borg's list of {repository.path} cannot be read") from error


async def delete(repository: Repository, names: Sequence[str]) -> None:
    """Remove archives; those that are gone already are fine. The space is free after `compact`. Raises HostFailure."""
    for name in names:
        with contextlib.suppress(NotFound):
            await _run(repository, ["delete", f"{repository.path}::{name}"], name=name)


async def compact(repository: Repository) -> None:
    """Give back the space of what was deleted. Raises HostFailure."""
    await _run(repository, ["compact", str(repository.path)])


async def read_file(repository: Repository, name: str, file: str) -> bytes:
    """A small file of an archive. Raises NotFound, HostFailure, also for one of more than 2 MiB."""
    arguments = ["extract", "--stdout", f"{repository.path}::{name}", f"pp:{file}"]
    done = await _run(repository, arguments, name=name, most=_SMALL)
    if any("never matched" in line for line in _warnings(done.stderr)):
        raise NotFound(f"'{file}' does not exist in the archive '{name}'")
    return done.stdout


async def entries(repository: Repository, name: str, path: str) -> list[TreeEntry] | None:
    """What a folder in an archive holds, None when there is none; `path` has no slash at its ends.

    Raises NotFound, and HostFailure for a folder of which borg tells more than 64 MiB.
    """
    deeper = f"re:^{re.escape(path)}/[^/]+/."
    arguments = ["list", "--json-lines", "--exclude", deeper, f"{repository.path}::{name}", f"pp:{path}"]
    done = await _run(repository, arguments, name=name, most=_LISTED)
    return await asyncio.to_thread(_listed, done.text, path)


def _listed(text: str, path: str) -> list[TreeEntry] | None:
    """Read what `borg list --json-lines` tells of a folder. Raises HostFailure."""
    found, there = [], False
    for line in filter(None, text.split("\n")):
        try:
            row = json.loads(line)
            there = there or row["path"] != path or row["type"] == "d"
            if row["path"] != path:
                found.append(_entry_of(row))
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
            raise HostFailure(f"borg's list of files cannot be read: {line[:200]!r}") from None
    return sorted(found, key=lambda entry: entry.name) if there else None


def _entry_of(row: Mapping[str, Any]) -> TreeEntry:
    form = "h" if row["mode"].startswith("h") else row["type"].replace("-", "f")
    # Borg tells times in the host's zone.
    changed = int(datetime.datetime.fromisoformat(row["mtime"]).timestamp())
    return TreeEntry(row["path"].rpartition("/")[2], form, int(row["size"]), changed)


async def read_all(repository: Repository, name: str) -> None:
    """Read an archive to its end and compare what can be compared. Raises NotFound, HostFailure."""
    done = await _run(repository, ["extract", "--dry-run", f"{repository.path}::{name}"], name=name)
    if bad := _warnings(done.stderr):
        raise HostFailure(f"the archive '{name}' is damaged: {_plain(bad[-1])}")


async def export_key(repository: Repository) -> str:
    """The key, encrypted with the passphrase, as text that `borg key import` takes. Raises HostFailure."""
    return (await _run(repository, ["key", "export", str(repository.path)])).text.strip() + "\n"


@contextlib.contextmanager
def tar(repository: Repository, name: str, paths: Sequence[str]) -> Iterator[Stage]:
    """While entered, the process that writes a container's files as a tar stream; see `borg_tar.py`."""
    with _passphrase(repository) as secret:
        variables = {**_environment(repository, None), **({_SECRET_PLACE: str(secret)} if secret is not None else {})}
        argv = [sys.executable, "-I", "-S", "-c", _TAR, _SOURCE, str(os.getpid()), json.dumps(variables)]
        argv += [str(repository.path), name, *paths]
        yield Stage(argv, "read from the backup", pass_fds=() if secret is None else (secret,))


@asynccontextmanager
async def mounted(repository: Repository, name: str, target: Path) -> AsyncIterator[Path]:
    """While entered, the folder that shows an archive, at `target`, which is made. Raises NotFound, HostFailure."""
    target.mkdir(mode=0o700, parents=True)
    try:
        with _passphrase(repository) as secret:
            process = await spawn(
                [*_DYING, PROGRAM, *_LOGGING, "mount", "--foreground", f"{repository.path}::{name}", str(target)],
                env=_environment(repository, secret, {"BORG_MOUNT_DATA_CACHE_ENTRIES": "32"}),
                pass_fds=() if secret is None else (secret,),
                stderr=PIPE,
            )
            try:
                while filesystems.mount_at(target) is None:
                    if process.returncode is not None:
                        words = await process.stderr.read() if process.stderr is not None else b""
                        _check(Completed(process.returncode, b"", words.decode(errors="replace")), name)
                        raise HostFailure(f"borg did not show the archive '{name}'")
                    await asyncio.sleep(0.05)
                yield target
            finally:
                idmap.unmount_folder(target)
                await asyncio.shield(kill_group(process))
    finally:
        idmap.unmount_folder(target)


@asynccontextmanager
async def viewed(repository: Repository, place: Path) -> AsyncIterator[Repository]:
    """While entered, the repository as it is now, made of hard links in the new folder `place` on its file system.

    Readers lock the view, which is theirs, and whatever is written to the repository meanwhile or taken from it is not
    seen: borg never changes a file that is there, it makes new ones and removes old ones. Raises HostFailure.
    """
    try:
        await asyncio.to_thread(_link, repository.path, place / "repository")
        yield replace(repository, path=place / "repository", base=place / "base")
    except OSError as error:
        raise filesystems.failure(error, f"read the repository {repository.path}") from error
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, place, ignore_errors=True))


def _link(source: Path, target: Path) -> None:
    # The index goes first: one that is older than the segments is brought up to date, one that is newer is an error.
    data = target / "data"
    data.mkdir(parents=True, mode=0o700)
    for entry in os.scandir(source):
        first = entry.name in _LINKED_FIRST or entry.name.startswith(("index.", "hints.", "integrity."))
        if first and entry.is_file(follow_symlinks=False) and not entry.name.endswith(".tmp"):
            with contextlib.suppress(FileNotFoundError):
                os.link(entry.path, target / entry.name, follow_symlinks=False)
    for folder in os.scandir(source / "data"):
        if folder.is_dir(follow_symlinks=False):
            (data / folder.name).mkdir()
            for entry in os.scandir(folder):
                with contextlib.suppress(FileNotFoundError):
                    os.link(entry.path, data / folder.name / entry.name, follow_symlinks=False)


def newest(repository: Repository) -> tuple[object, ...]:
    """What is another value after each change of a repository, by whomever: its index is a new file then.

    Raises HostFailure without a repository.
    """
    try:
        found = [entry for entry in os.scandir(repository.path) if entry.name.startswith("index.")]
        return tuple(sorted((entry.name, entry.inode(), entry.stat().st_mtime_ns) for entry in found))
    except FileNotFoundError:
        raise HostFailure(f"the repository {repository.path} is gone: is its disk mounted?") from None


async def free_dead_locks(repository: Repository) -> None:
    """Break what a borg of this host holds that does not run any more. Raises HostFailure.

    Borg does so itself as long as nobody else has the process id again.
    """
    caches = repository.base / ".cache" / "borg"
    locks = [repository.path / "lock.exclusive", *caches.glob("*/lock.exclusive")]
    names = [name for lock in locks if lock.is_dir() for name in os.listdir(lock)]
    if any(_is_dead(name, repository.host) for name in names):
        await _run(repository, ["break-lock", str(repository.path)])


def _is_dead(name: str, host: str) -> bool:
    match = _LOCK_NAME.fullmatch(name)
    if match is None or match["host"] != host:
        return False
    try:
        return _BORG_COMMAND.search(Path(f"/proc/{match['pid']}/cmdline").read_bytes()) is None
    except (FileNotFoundError, ProcessLookupError):
        return True


_LOGGING = ("--log-json", "--lock-wait", str(_LOCK_WAIT))
_NICE = ("/usr/bin/nice", "-n", "10")
_DYING = ("/usr/bin/setpriv", "--pdeathsig", "KILL", "--")


def _environment(repository: Repository, secret: int | None, more: Mapping[str, str] | None = None) -> dict[str, str]:
    return {
        "BORG_BASE_DIR": str(repository.base),
        "BORG_HOST_ID": repository.host,
        "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        "BORG_DISPLAY_PASSPHRASE": "no",
        # Else one that is not encrypted could be put in the place of one that is.
        **({"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"} if repository.passphrase is None else {}),
        **({_SECRET_PLACE: str(secret)} if secret is not None else {}),
        **(more or {}),
    }


@contextlib.contextmanager
def _passphrase(repository: Repository) -> Iterator[int | None]:
    """A descriptor to inherit with the passphrase in it, in memory alone."""
    if repository.passphrase is None:
        yield None
        return
    descriptor = os.memfd_create("passphrase", os.MFD_CLOEXEC)
    try:
        try:
            os.write(descriptor, repository.passphrase.read_bytes())
        except FileNotFoundError:
            raise HostFailure(f"the passphrase of the repository {repository.path} is not known here") from None
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


async def _run(
    repository: Repository, arguments: Sequence[str], *, name: str = "", most: int | None = None
) -> Completed:
    """Run borg to its end. Raises what its failure means, and HostFailure when it writes more than `most` bytes."""
    command, *rest = arguments
    filesystems.make_folder(repository.base, 0o700)
    with _passphrase(repository) as secret:
        argv, given = [*_DYING, *_NICE, PROGRAM, *_LOGGING, command, *rest], () if secret is None else (secret,)
        env = _environment(repository, secret)
        if most is None:
            done = await run(argv, env=env, deadline=_FOR_EVER, check=False, pass_fds=given)
        else:
            done = await _at_most(most, argv, env, given)
    _check(done, name)
    return done


async def _at_most(most: int, argv: Sequence[str], env: Mapping[str, str], given: Sequence[int]) -> Completed:
    """What a process writes that was asked about an archive, which may be a stranger's."""
    process = await spawn(argv, env=env, stdout=PIPE, stderr=PIPE, pass_fds=given)
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    saying, out = asyncio.create_task(last_words(process)), bytearray()
    try:
        while part := await process.stdout.read(MIB):
            out += part
            if len(out) > most:
                raise HostFailure(f"the archive holds more there than can be told: more than {readable(most)}")
        return Completed(await process.wait(), bytes(out), await saying)
    finally:
        saying.cancel()
        if process.returncode is None:
            await asyncio.shield(kill_group(process))


async def _limited(argv: Sequence[str], secret: int | None, rate: int, path: Path) -> Completed:
    """Run a process that reads at most `rate` bytes a second, 0 for no limit, and fills the disk of `path`.

    Cancelling kills it. Raises NoSpace before the disk is full.
    """
    await asyncio.to_thread(_check_space, path)
    process = await spawn(argv, stdout=PIPE, stderr=PIPE, pass_fds=() if secret is None else (secret,))
    watching = asyncio.create_task(_end_when_full(process, path))
    braking = asyncio.create_task(_brake(process.pid, rate)) if rate else None
    try:
        out, err = await process.communicate()
    except BaseException:
        await asyncio.shield(kill_group(process))
        raise
    finally:
        if braking is not None:
            braking.cancel()
        watching.cancel()
    if watching.done() and not watching.cancelled():
        watching.result()
    return Completed(process.returncode or 0, out, err.decode(errors="replace"))


def _check_space(path: Path) -> None:
    free = filesystems.space(path)[2]
    if free < _KEPT_FREE:
        raise NoSpace(
            f"the disk of {path} is full: {readable(free)} are free, and borg needs {readable(_KEPT_FREE)} to work with"
        )


async def _end_when_full(process: Process, path: Path) -> None:
    """Kill a process when the disk is nearly full. Raises NoSpace then."""
    while True:
        await asyncio.sleep(_PERIOD / 2)
        try:
            await asyncio.to_thread(_check_space, path)
        except NoSpace:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise


async def _brake(pid: int, rate: int) -> None:
    """Stop a process for as long as it is ahead of its rate: borg has no limit for what lies on this host."""
    began = time.monotonic()
    with contextlib.suppress(OSError, ValueError, IndexError):
        while True:
            await asyncio.sleep(_PERIOD)
            done = int(Path(f"/proc/{pid}/io").read_text().split()[1])
            ahead = done / rate - (time.monotonic() - began)
            if ahead > 0:
                os.killpg(pid, signal.SIGSTOP)
                try:
                    await asyncio.sleep(ahead)
                finally:
                    os.killpg(pid, signal.SIGCONT)


def _patterns(exclude: Sequence[str]) -> Iterator[str]:
    """Patterns as borg takes them: a `*` passes over slashes, as it does for tar(1)."""
    for pattern in exclude:
        plain = pattern.lstrip("/").removeprefix("./").rstrip("/")
        if plain:
            yield f"fm:root/{plain}"
        if plain and not pattern.startswith("/"):
            yield f"fm:root/*/{plain}"


def _entries(stderr: str) -> Iterator[Mapping[str, Any]]:
    for line in filter(None, stderr.splitlines()):
        entry: Any = {"levelname": "PLAIN", "message": line}
        if line.startswith("{"):
            with contextlib.suppress(ValueError, RecursionError):
                entry = json.loads(line)
        if isinstance(entry, dict):
            yield entry


def _warnings(stderr: str) -> list[str]:
    """What borg warns of; that a cache of its own is not there is no matter."""
    found = (entry for entry in _entries(stderr) if entry.get("levelname") == "WARNING")
    return [str(entry.get("message", "")) for entry in found if entry.get("name") != "borg.cache"]


def _plain(line: str) -> str:
    return line.strip().splitlines()[0] if line.strip() else "no message"


def _check(done: Completed, name: str) -> None:
    """Raise what a failure means."""
    if done.code in (0, 1):
        return
    entries = [entry for entry in _entries(done.stderr) if entry.get("levelname") in ("ERROR", "CRITICAL")]
    kinds = [str(entry.get("msgid") or "") for entry in entries]
    words = " ".join(str(entry.get("message", "")) for entry in _entries(done.stderr))
    raise _meaning(kinds, words, name) or RunError([PROGRAM], done.code, _last(entries, done.stderr))


def _last(entries: Sequence[Mapping[str, Any]], stderr: str) -> str:
    if entries:
        lines = str(entries[-1].get("message", "")).strip().splitlines() or ["no message"]
        # Of a traceback the line below it says what it was.
        ends = [line for line in lines[1:] if line and not line.startswith(" ")] if "Traceback" in lines[0] else []
        return (ends or lines)[0]
    return stderr[-2000:]


def _meaning(kinds: Sequence[str], words: str, name: str) -> BastideError | None:
    if "Archive.AlreadyExists" in kinds:
        return AlreadyExists(f"backup '{name}' already exists")
    if "Archive.DoesNotExist" in kinds:
        return NotFound(f"backup '{name}' does not exist")
    if "Repository.InsufficientFreeSpaceError" in kinds or "No space left" in words or "quota exceeded" in words:
        return NoSpace("the storage of the backups is full")
    texts = {
        "PassphraseWrong": "the passphrase is not that of the repository: give the one that it was made with",
        "Cache.CacheInitAbortedError": "the repository is not encrypted, and it was: another one lies in its place",
        "NoPassphraseFailure": "the repository has a passphrase, which is not known here",
        "LockTimeout": "the repository is in use by another program: try again when that has ended",
        "Repository.DoesNotExist": "the repository does not exist",
        "Repository.InvalidRepository": "the folder holds no repository of borg's",
        "Repository.ParentPathDoesNotExist": "the folder of the repository does not exist",
    }
    return next((HostFailure(texts[kind]) for kind in kinds if kind in texts), None)
