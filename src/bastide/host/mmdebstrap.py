"""Building a root file system with mmdebstrap(1), into a compressed archive or into a folder.

Everything that it starts lives in a PID and a mount namespace of its own and dies with the daemon, so that neither a
mount nor a process outlives a build that was killed.
"""

import asyncio
import contextlib
import os
import re
import shutil
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bastide.base.errors import HostFailure, NoSpace, NotSupported, RunError
from bastide.host import apt
from bastide.host.filesystems import make_folder, replace_text
from bastide.host.run import kill_group, spawn

_NAMESPACES = (
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"),
)
_STEPS = {
    "running apt-get update": 5,
    "downloading packages with apt": 15,
    "extracting archives": 35,
    "installing essential packages": 45,
    "installing remaining packages inside the chroot": 55,
    "cleaning package lists and apt cache": 90,
    "creating tarball": 93,
}
_LEVEL = "-6"
_MERGED_USR = Path("/usr/share/mmdebstrap/hooks/maybe-merged-usr")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to build: APT `sources` of one release, `packages`, dpkg path excludes, and shell `hooks`.

    A hook is a constant line of ours in which `$1` is the root file system; nothing from outside ever gets into one.
    `early_hooks` run when only the essential packages are there, before `packages` are installed.
    """

    codename: str
    architecture: str
    sources: Sequence[apt.AptSource]
    packages: Sequence[str]
    excludes: Sequence[str]
    includes: Sequence[str]
    hooks: Sequence[str]
    early_hooks: Sequence[str] = ()


def command(recipe: Recipe, sources: Path, proxies: Sequence[str], root: Path | None = None) -> list[str]:
    """The argument list of mmdebstrap; an archive goes to its standard output unless `root` is the folder to make."""
    form = "tar" if root is None else "directory"
    argv = ["mmdebstrap", "--mode=root", "--variant=apt", f"--format={form}", f"--architectures={recipe.architecture}"]
    argv += [f"--include={','.join(recipe.packages)}", '--aptopt=Acquire::Retries "3";']
    argv += ['--aptopt=APT::Install-Recommends "false";', "--aptopt=Acquire::Languages { };"]
    # Nobody but root reaches the folder that this works in, so APT's own user would not either.
    argv += ['--aptopt=APT::Sandbox::User "root";']
    argv += [f"--aptopt={option}" for option in proxies]
    # Nodes of devices cannot be made in a container, and whoever loses power in the middle builds again.
    argv += ["--skip=output/dev", "--dpkgopt=force-unsafe-io"]
    if _MERGED_USR.is_dir():
        # Makes the merged /usr itself, instead of installing perl for the package that does it.
        argv += [f"--hook-dir={_MERGED_USR}"]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.excludes]
    argv += [f"--dpkgopt=path-include={pattern}" for pattern in recipe.includes]
    argv += [f"--essential-hook={hook}" for hook in recipe.early_hooks]
    argv += [f"--customize-hook={hook}" for hook in recipe.hooks]
    return [*argv, recipe.codename, "-" if root is None else str(root), str(sources)]


async def build(recipe: Recipe, target: Path, log: Callable[[str], None]) -> dict[str, str]:
    """Build `target` (a new `.tar.zst` file) and return the packages in it, {name: version}.

    `log` gets lines such as ` 35% extracting archives`. Works in the folder `target` + `.build`, which is removed in
    the end; the caller removes `target` after a failure. Raises NotSupported, NoSpace, RunError.
    """
    need("mmdebstrap", "zstd")
    folder = target.with_name(f"{target.name}.build")
    make_folder(folder, 0o700)
    try:
        job = await _prepare(recipe, folder, None)
        await _pack(job, target, log)
        return _read_packages(job.packages)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def unpack(recipe: Recipe, folder: Path, log: Callable[[str], None]) -> tuple[Path, dict[str, str]]:
    """Build a root file system as the folder `root` below `folder`, which is the caller's and is there: (it, packages).

    The caller removes `folder`. `log` and errors as for `build`.
    """
    need("mmdebstrap")
    root = folder / "root"
    job = await _prepare(recipe, folder, root)
    process = await spawn(job.argv, env=job.environment, stderr=PIPE)
    last: deque[str] = deque(maxlen=30)
    try:
        await _follow(process, log, last)
        code = await process.wait()
    finally:
        if process.returncode is None:
            await kill_group(process)
    _explain(code, last)
    return root, _read_packages(job.packages)


def need(*tools: str) -> None:
    """Make sure that programs are installed. Raises NotSupported that names the first that is not."""
    for tool in tools:
        if shutil.which(tool) is None:
            raise NotSupported(f"{tool} is not installed on this host; see `bastide doctor`")


@dataclass(frozen=True, slots=True)
class _Job:
    argv: list[str]
    environment: dict[str, str]
    packages: Path


async def _prepare(recipe: Recipe, folder: Path, root: Path | None) -> _Job:
    sources = folder / "apt.sources"
    replace_text(sources, apt.render(recipe.sources))
    packages = folder / "packages"
    environment = {"TMPDIR": str(folder), "BASTIDE_PACKAGES": str(packages)}
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        if name in os.environ:
            environment[name] = os.environ[name]
    argv = [*_NAMESPACES, *command(recipe, sources, await apt.proxy_options(), root)]
    return _Job(argv, environment, packages)


async def _pack(job: _Job, target: Path, log: Callable[[str], None]) -> None:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    output = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    started: list[Process] = []
    last: deque[str] = deque(maxlen=30)
    try:
        try:
            started.append(await spawn(job.argv, env=job.environment, stdout=writing, stderr=PIPE))
            packer = ["setpriv", "--pdeathsig", "KILL", "--", "zstd", "-q", "-T0", _LEVEL, "-c"]
            started.append(await spawn(packer, stdin=reading, stdout=output))
        finally:
            for descriptor in (reading, writing, output):
                os.close(descriptor)
        await _follow(started[0], log, last)
        code, packed = await started[0].wait(), await started[1].wait()
    finally:
        for process in started:
            if process.returncode is None:
                await kill_group(process)
    _explain(code, last)
    if packed != 0:
        raise HostFailure(f"zstd failed with exit code {packed}: the disk may be full")


def _explain(code: int, last: "deque[str]") -> None:
    text = "\n".join(last)
    if "No space left on device" in text or "not enough free space" in text.lower():
        raise NoSpace("the disk is full: the image could not be built")
    if code != 0:
        raise RunError(["mmdebstrap"], code, text.removesuffix("E: mmdebstrap failed to run"))


async def _follow(process: Process, log: Callable[[str], None], last: "deque[str]") -> None:
    assert process.stderr is not None  # noqa: S101 - asked for by the caller
    while raw := await process.stderr.readline():
        line = raw.decode(errors="replace").strip()
        if not line or re.fullmatch(r"[\d.\s%]*(done)?", line):
            continue
        last.append(line)
        text = line.removeprefix("I: ")
        if re.match(r"running --[a-z]+-hook", text):
            continue
        percent = next((value for step, value in _STEPS.items() if text.startswith(step)), None)
        if percent is not None:
            log(f"{percent:3d}% {text.rstrip('.')}")
        elif line.startswith(("E: ", "W: ", "dpkg: ", "error")):
            log(line)


def _read_packages(path: Path) -> dict[str, str]:
    lines: list[str] = []
    with contextlib.suppress(FileNotFoundError):
        lines = path.read_text(errors="replace").splitlines()
    pairs = (line.split("\t") for line in lines)
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
