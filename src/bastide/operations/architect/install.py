"""A guest becomes a service: a catalog entry's recipe, run inside it.

The same steps for both kinds of guest, each of which may be repeated: wait until the guest has booted and can reach its
package sources, answer packages' questions, install them, write files, make secrets, run scripts, start units, and ask
the service from the host until it answers. Sources: debconf-set-selections(1), apt-get(8), systemctl(1).
"""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence

from bastide.base.errors import (
    BastideError,
    DeadlineExceeded,
    HostFailure,
    NotFound,
    NotSupported,
    RunError,
    WrongState,
)
from bastide.base.ids import Upid
from bastide.host import service_probe
from bastide.model.access import Identity
from bastide.model.catalog import CatalogEntry, Probe, Recipe, RecipeFile
from bastide.model.guest import Guest, GuestState
from bastide.operations.addresses import addresses
from bastide.operations.architect import inside
from bastide.operations.rooms import Rooms
from bastide.operations.vm.execute import require_agent
from bastide.tasks.tasks import Task

_BOOT_SECONDS = 1800.0
_NETWORK_SECONDS = 300.0
_PACKAGE_SECONDS = 3600.0
_SCRIPT_SECONDS = 900.0
_PAUSE = 1.0
_APT_ATTEMPTS = 20
_LOCK_PAUSE = 10.0
_INTERRUPTED = "dpkg --configure -a"
_JOURNAL_LINES = 15
_TOLD_LINES = 3

_APT = ("-q", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0")
_KEEP_FILES = ("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")
_QUIET = {"DEBIAN_FRONTEND": "noninteractive"}

_SYSTEM = '. /etc/os-release && printf "%s-%s" "$ID" "${VERSION_ID:-}"'
_BOOTED = """\
if command -v cloud-init; then cloud-init status --wait || true; fi >/dev/null 2>&1
while :; do
    state=$(systemctl is-system-running 2>/dev/null) || true
    case $state in running | degraded | maintenance) exit 0 ;; stopping) echo 'it is stopping' >&2; exit 1 ;; esac
    sleep 0.5
done
"""
# Names are not looked up where a proxy does that.
_ONLINE = """\
left=120
hosts=$(apt-get indextargets --format '$(SITE)' | sed -n 's|^https\\{0,1\\}://\\([^/:@]*\\).*|\\1|p' | sort -u)
if apt-config dump | grep -qi '^Acquire::https\\{0,1\\}::Proxy "[^"]'; then hosts=; fi
while :; do
    problem=
    [ -n "$(ip -o addr show scope global)" ] || problem='it has no address'
    for host in $hosts; do
        [ -n "$problem" ] || getent ahosts "$host" >/dev/null || problem="it cannot look up $host"
    done
    [ -n "$problem" ] || exit 0
    [ "$left" -gt 0 ] || { echo "$problem" >&2; exit 1; }
    left=$((left - 1))
    sleep 1
done
"""
_SECRETS = """\
umask 077
file=/root/$1.secrets
shift
[ -e "$file" ] || : >"$file"
chmod 600 "$file"
for key; do
    grep -q "^$key=" "$file" ||
        printf '%s=%s\\n' "$key" "$(LC_ALL=C tr -dc A-Za-z0-9 </dev/urandom | head -c 24)" >>"$file"
done
"""


async def install_task(rooms: Rooms, by: Identity, guest: Guest, entry: CatalogEntry) -> Upid:
    """Start a task that installs an entry in a running guest. Raises NotSupported without a recipe, WrongState."""
    recipe = recipe_of(entry)
    _require_running(rooms, guest)

    async def work(task: Task) -> None:
        await install(rooms, guest, recipe, task, name=entry.name)

    return await rooms.tasks.start("install", str(guest.vmid), by, work)


def recipe_of(entry: CatalogEntry) -> Recipe:
    """An entry's recipe. Raises NotSupported, which tells where else to look."""
    if entry.recipe is None:
        where = f": see {entry.upstream}" if entry.upstream else ""
        raise NotSupported(f"the catalog has no recipe for {entry.name}, so it cannot be installed by itself{where}")
    return entry.recipe


async def install(rooms: Rooms, guest: Guest, recipe: Recipe, task: Task, *, name: str = "service") -> None:
    """Run a recipe in a running guest, until the service answers its probe. May be run again.

    `name` is the entry's: secrets are kept in the guest's /root/NAME.secrets. A guest that boots is waited for.

    Raises WrongState when the guest does not run, NotSupported for a system that the recipe is not for, RunError and
    HostFailure when a step fails or the service does not answer, DeadlineExceeded.
    """
    await _await_boot(rooms, guest, task)
    system = (await inside.script(rooms, guest, _SYSTEM)).output
    if system not in recipe.os:
        raise NotSupported(f"the recipe for {name} is for {' and '.join(recipe.os)}: {guest.title} runs {system}")
    await _write(rooms, guest, [file for file in recipe.files if file.before], task)
    if recipe.packages:
        await _await_network(rooms, guest, task)
        await _install_packages(rooms, guest, recipe, task)
    await _write(rooms, guest, [file for file in recipe.files if not file.before], task)
    await _run_scripts(rooms, guest, recipe, name, task)
    await _start_services(rooms, guest, recipe.services, task)
    await _await_answer(rooms, guest, recipe, name, task)


def _require_running(rooms: Rooms, guest: Guest) -> None:
    state = rooms.engine(guest).state(guest.vmid)
    if state is not GuestState.RUNNING:
        advice = "resume" if state is GuestState.PAUSED else "start"
        raise WrongState(f"{guest.title} is not running: {advice} it first")


async def _await_boot(rooms: Rooms, guest: Guest, task: Task) -> None:
    _require_running(rooms, guest)
    task.log(f"waiting until {guest.title} has booted")
    loop = asyncio.get_running_loop()
    end = loop.time() + _BOOT_SECONDS
    while guest.kind == "qemu":
        try:
            await require_agent(rooms, guest)
            break
        except WrongState as error:
            _require_running(rooms, guest)
            if "configured" in str(error) or loop.time() > end:
                raise
        await asyncio.sleep(_PAUSE)
    await _ready(rooms, guest, _BOOTED, "its system has not booted", deadline=max(60.0, end - loop.time()))


async def _await_network(rooms: Rooms, guest: Guest, task: Task) -> None:
    task.log("waiting for the network")
    await _ready(rooms, guest, _ONLINE, "its network does not come up", deadline=_NETWORK_SECONDS)


async def _ready(rooms: Rooms, guest: Guest, text: str, otherwise: str, *, deadline: float) -> None:
    """A script of ours that waits, and whose last line of errors says why it does no longer."""
    try:
        await inside.script(rooms, guest, text, deadline=deadline)
    except DeadlineExceeded:
        problem = otherwise
    except RunError as error:
        problem = _last(error.stderr) or otherwise
    else:
        return
    raise HostFailure(f"{guest.title} is not ready: {problem}")


async def _install_packages(rooms: Rooms, guest: Guest, recipe: Recipe, task: Task) -> None:
    if recipe.debconf:
        answers = "".join(f"{line}\n" for line in recipe.debconf).encode()
        await inside.run(rooms, guest, ["debconf-set-selections"], data=answers)
    task.log(f"installing {', '.join(recipe.packages)}")
    wanted = "--install-recommends" if recipe.recommends else "--no-install-recommends"
    await _apt(rooms, guest, ["update"], task)
    await _apt(rooms, guest, [*_KEEP_FILES, wanted, "install", "--", *recipe.packages], task)


async def _apt(rooms: Rooms, guest: Guest, arguments: Sequence[str], task: Task) -> None:
    argv = ["apt-get", *_APT, *arguments]
    for attempt in range(_APT_ATTEMPTS):
        try:
            await inside.run(rooms, guest, argv, env=_QUIET, deadline=_PACKAGE_SECONDS, line=task.log)
            return
        except RunError as error:
            told = [line for line in error.stderr.splitlines() if line.startswith("E: ")]
            last = attempt == _APT_ATTEMPTS - 1
            if not last and _INTERRUPTED in error.stderr:
                task.log("an earlier installation was interrupted: finishing it")
                await inside.run(rooms, guest, _INTERRUPTED.split(), env=_QUIET, deadline=_PACKAGE_SECONDS, check=False)
            elif last or not any("lock" in line for line in told):
                raise HostFailure(
                    f"apt-get failed in {guest.title}: {told[0] if told else _last(error.stderr)}"
                ) from None
            else:  # of the package lists, which apt-get does not wait for
                await asyncio.sleep(_LOCK_PAUSE)


async def _write(rooms: Rooms, guest: Guest, wanted: Iterable[RecipeFile], task: Task) -> None:
    for file in wanted:
        task.log(f"writing {file.path}")
        await inside.write(rooms, guest, file.path, file.text, int(file.mode, 8))


async def _run_scripts(rooms: Rooms, guest: Guest, recipe: Recipe, name: str, task: Task) -> None:
    head = "export DEBIAN_FRONTEND=noninteractive\n"
    if recipe.secrets:
        await inside.script(rooms, guest, _SECRETS, name, *recipe.secrets)
        head += f"set -a\n. /root/{name}.secrets\nset +a\n"
        task.log(f"the secrets are in /root/{name}.secrets in the guest")
    for number, text in enumerate(recipe.run, 1):
        task.log(f"running script {number} of {len(recipe.run)}")
        try:
            await inside.script(rooms, guest, head + text, deadline=_SCRIPT_SECONDS, line=task.log)
        except RunError as error:
            why = _last(error.stderr) or "no message"
            raise HostFailure(
                f"script {number} of the recipe for {name} failed in {guest.title} with exit code {error.code}: {why}"
            ) from None


async def _start_services(rooms: Rooms, guest: Guest, services: Sequence[str], task: Task) -> None:
    for service in services:
        task.log(f"starting {service}")
        await inside.run(rooms, guest, ["systemctl", "--quiet", "enable", "--", service], deadline=_SCRIPT_SECONDS)
        try:
            await inside.run(rooms, guest, ["systemctl", "restart", "--", service], deadline=_SCRIPT_SECONDS)
        except RunError:
            told = await _journal(rooms, guest, [service], task)
            raise HostFailure(f"{service} did not start in {guest.title}{told}") from None


async def _await_answer(rooms: Rooms, guest: Guest, recipe: Recipe, name: str, task: Task) -> None:
    probe = recipe.probe
    loop = asyncio.get_running_loop()
    end = loop.time() + probe.seconds
    task.log(f"waiting for an answer of {name}, at most {probe.seconds} seconds")
    while True:
        try:
            task.log(f"{name} answers: {await _ask(rooms, guest, probe)}")
            return
        except BastideError as error:
            problem = str(error)
        if loop.time() >= end:
            break
        await asyncio.sleep(_PAUSE)
    told = await _journal(rooms, guest, recipe.services, task)
    raise HostFailure(
        f"{name} is installed in {guest.title} and does not answer after {probe.seconds} seconds: {problem}{told}"
    )


async def _ask(rooms: Rooms, guest: Guest, probe: Probe) -> str:
    """One attempt; what was asked. Raises BastideError with the reason."""
    if probe.type == "command":
        ended = await inside.run(rooms, guest, probe.command, deadline=60)
        if probe.contains is not None and probe.contains not in ended.output:
            raise HostFailure(f"the output of '{' '.join(probe.command)}' does not contain '{probe.contains}'")
        return " ".join(probe.command)
    found = await service_probe.usable(await addresses(rooms, guest))
    if not found:
        raise NotFound(f"{guest.title} has no address")
    problems = []
    for address in found:
        place = service_probe.target(probe, address)
        try:
            await service_probe.check(probe, address)
            return place
        except HostFailure as error:
            problems.append(f"{place}: {error}")
    raise HostFailure(problems[0])


async def _journal(rooms: Rooms, guest: Guest, services: Sequence[str], task: Task) -> str:
    """The units' last journal lines to the log; the very last of them for an error's text."""
    lines: list[str] = []
    for service in services:
        argv = ["journalctl", "--no-pager", "-q", "-o", "cat", "-n", str(_JOURNAL_LINES), f"--unit={service}"]
        with contextlib.suppress(BastideError):
            lines += (await inside.run(rooms, guest, argv)).output.splitlines()
    for line in lines:
        task.log(f"  {line}")
    return f"; its journal ends with: {' | '.join(lines[-_TOLD_LINES:])}" if lines else ""


def _last(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
