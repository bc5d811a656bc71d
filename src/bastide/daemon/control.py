"""Starting and ending the daemon from outside: what `up`, `down` and `doctor` do on this machine."""

import asyncio
import contextlib
import errno
import itertools
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from bastide.base.errors import (
    BastideError,
    DeadlineExceeded,
    HostFailure,
    InvalidParameter,
    NotFound,
    PermissionDenied,
    WrongState,
)
from bastide.base.layout import Layout
from bastide.cli.hosting import DownReport, DownRequest, Finding, UpReport, UpRequest
from bastide.client.errors import Unreachable
from bastide.client.http import Client
from bastide.client.transport import UnixTransport
from bastide.daemon.findings import records, storages
from bastide.host import processes, run

UP_DEADLINE = 30.0  # seconds
DOWN_DEADLINE = 30.0
UNIT = "bastide.service"
_LOG_TAIL = 12  # lines


def up(layout: Layout, request: UpRequest) -> UpReport | None:
    """Make a daemon run and answer, in the background or in the foreground (then None, when it has ended).

    Raises PermissionDenied without root, WrongState when one runs otherwise than asked, HostFailure when it dies at
    once or its port is taken, DeadlineExceeded when it does not answer.
    """
    _require_root("bastide up")
    running = _status(layout)
    if running is None and (pid := daemon_pid(layout)) is not None:
        running = _await_answer(layout, None, f"the daemon (process {pid}) runs and does not answer")
    if running is not None:
        _refuse_differences(running, request)
        return _report(layout, running, started=False)
    _check_port(request)
    if request.foreground:
        _run_here(layout, request)
        return None
    return _report(layout, asyncio.run(_start(layout, request)), started=True)


def down(layout: Layout, request: DownRequest) -> DownReport:
    """End the daemon; with `guests` shut them down before, with `purge` remove every trace after.

    Raises WrongState when guests stand in the way of `purge`, DeadlineExceeded when the daemon does not end.
    """
    _require_root("bastide down")
    lines: list[str] = []
    if request.purge and request.force and _status(layout) is None and (layout.state / "bastide.db").exists():
        _up_for_a_moment(layout)
    if _status(layout) is not None:
        with Client(UnixTransport(layout.socket)) as client:
            if request.purge:
                lines += _destroy_guests(client, request)
            elif request.guests:
                lines += _shut_down_guests(client, request.timeout)
    stopped = _end(layout)
    lines.append("the daemon has ended" if stopped else "no daemon runs")
    if stopped and not (request.guests or request.purge):
        lines[-1] += "; guests keep running"
    if request.purge:
        from bastide.daemon.build import purge  # noqa: PLC0415 - imports the whole daemon

        asyncio.run(purge(layout))
        lines.append("removed the bridge, the firewall tables, the state and the logs")
    return DownReport(stopped, lines)


def _up_for_a_moment(layout: Layout) -> None:
    """Start a daemon, since only one can destroy what guests there are; one that does not answer is ended again."""
    try:
        up(layout, UpRequest())
    except DeadlineExceeded:
        _end(layout)
        raise


def doctor(layout: Layout) -> list[Finding]:
    """What this host can do. Works without a daemon, which would tell of its storages besides."""
    from bastide.host import doctor as checks  # noqa: PLC0415 - heavy, and only this needs it

    found = checks.doctor(layout)
    told = [Finding(check.name, check.ok, check.message, check.advice) for check in found]
    return told + storages(layout) + records(layout)


def daemon_pid(layout: Layout) -> int | None:
    """The process of this layout's daemon, or None. A stale or reused process id does not count."""
    try:
        pid = int(layout.pid_file.read_text())
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (OSError, ValueError):
        return None
    return pid if "bastide.daemon" in argv or UNIT.removesuffix(".service") in argv else None


def _found_pid(layout: Layout) -> int | None:
    """The same; one whose file with its number was removed is known by its command line."""
    pid = daemon_pid(layout)
    return pid or next((pid for pid in processes.find(_is_daemon) if _serves(pid, layout)), None)


def _is_daemon(argv: list[bytes]) -> bool:
    return (b"-m", b"bastide.daemon") in itertools.pairwise(argv)


def _serves(pid: int, layout: Layout) -> bool:
    """Whether a daemon's command line names this layout's folder, and it is none in a container."""
    try:
        if os.readlink(f"/proc/{pid}/ns/pid") != os.readlink("/proc/self/ns/pid"):
            return False
        words = [word.decode(errors="replace") for word in processes.arguments(pid)]
        folder = Path(os.readlink(f"/proc/{pid}/cwd"))
    except OSError:
        return False
    named = [following for word, following in itertools.pairwise(words) if word == "--root"]
    named += [word.partition("=")[2] for word in words if word.startswith("--root=")]
    return "bastide.daemon" in words and layout.root == ((folder / named[-1]).resolve() if named else None)


def _require_root(what: str) -> None:
    if os.geteuid() != 0:
        raise PermissionDenied(f"{what} must run as root: sudo ./{what}")


def _status(layout: Layout) -> dict[str, Any] | None:
    """What the daemon says of itself; None when none answers."""
    try:
        with Client(UnixTransport(layout.socket)) as client:
            status: dict[str, Any] = client.get("/bastide/status")
    except Unreachable:
        return None
    return status


def _refuse_differences(running: dict[str, Any], request: UpRequest) -> None:
    asked = {"port": request.port, "node": request.node}
    for name, wanted in asked.items():
        if wanted is not None and str(running.get(name)) != str(wanted):
            raise WrongState(
                f"the daemon runs with {name} {running.get(name)}, not {wanted}: end it first with bastide down"
            )


def _report(layout: Layout, status: dict[str, Any], *, started: bool) -> UpReport:
    address, port = str(status.get("address") or "localhost"), status.get("port")
    certificate = layout.state / "api.pem"
    return UpReport(
        started=started,
        url=f"https://{f'[{address}]' if ':' in address else address}:{port}",
        node=str(status["node"]),
        version=str(status.get("version", "")),
        pid=status.get("pid"),
        fingerprint=_fingerprint(certificate),
    )


def _fingerprint(certificate: Path) -> str | None:
    import hashlib  # noqa: PLC0415 - and no library for certificates: that takes longer than the rest
    import ssl  # noqa: PLC0415

    try:
        der = ssl.PEM_cert_to_DER_cert(certificate.read_text().partition("-----END CERTIFICATE-----")[0] + _PEM_END)
    except (OSError, ValueError):
        return None
    digest = hashlib.sha256(der).hexdigest().upper()
    return ":".join(digest[index : index + 2] for index in range(0, len(digest), 2))


_PEM_END = "-----END CERTIFICATE-----\n"


def _check_port(request: UpRequest) -> None:
    """Refuse a taken port before anything is started; the daemon's own message would only be in its log."""
    port = request.port
    if port is None:
        return  # the daemon knows which one it was given before
    if not 1 <= port <= 65535:
        raise InvalidParameter({"port": f"{port} is not a port: use 1 to 65535"})
    for family, address in ((socket.AF_INET6, request.listen or "::"), (socket.AF_INET, request.listen or "0.0.0.0")):  # noqa: S104 - every address, unless one is named
        if (":" in address) != (family == socket.AF_INET6):
            continue
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise HostFailure(
                        f"port {port} is taken by another program (ss -ltnp sport = :{port} tells which): "
                        "choose another one with --port"
                    ) from None


def _run_here(layout: Layout, request: UpRequest) -> None:
    from bastide.daemon.__main__ import main as daemon  # noqa: PLC0415 - imports the whole daemon

    def announce() -> None:
        with contextlib.suppress(DeadlineExceeded):
            report = _report(layout, _await_answer(layout, None, ""), started=True)
            sys.stderr.write(f"Bastide {report.version} answers at {report.url}; Ctrl+C ends it, guests keep running\n")

    threading.Thread(target=announce, daemon=True).start()
    sys.argv = ["bastide.daemon", *_arguments(layout, request)]
    if code := daemon():
        raise SystemExit(code)


def _arguments(layout: Layout, request: UpRequest) -> list[str]:
    root = ["--root", str(layout.root)] if layout.root else []
    return [*root, *request.options()]


def _unit_usable(layout: Layout, request: UpRequest) -> bool:
    """Whether systemd runs this machine and has our unit; options of one's own are for a daemon of one's own."""
    if layout.root is not None or request.options() or not Path("/run/systemd/system").is_dir():
        return False
    folders = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
    return any((Path(folder) / UNIT).exists() for folder in folders)


async def _start(layout: Layout, request: UpRequest) -> dict[str, Any]:
    if _unit_usable(layout, request):
        await run.run(["systemctl", "start", UNIT], deadline=UP_DEADLINE * 2)
        return _await_answer(layout, None, f"{UNIT} was started and does not answer: journalctl -u {UNIT}")
    layout.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    log_file = layout.logs / "daemon.log"
    began = log_file.stat().st_size if log_file.exists() else 0
    alive, held = os.pipe()
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        await _detach(layout, request, log, held)
    finally:
        os.close(log)
        os.close(held)
    try:
        return _await_answer(layout, alive, "the daemon was started and does not answer")
    except _Died:
        raise HostFailure(_last_words(log_file, began)) from None
    finally:
        os.close(alive)


async def _detach(layout: Layout, request: UpRequest, log: int, held: int) -> None:
    """Start a daemon that outlives this program: asyncio kills its own children when its loop ends, setsid's child
    belongs to nobody. It keeps `held`, one end of a pipe, open while it lives."""
    python = [sys.executable, *(["-I"] if sys.flags.isolated else []), "-m", "bastide.daemon"]
    process = await run.spawn(
        ["setsid", "--fork", *python, *_arguments(layout, request)],
        env=None if sys.flags.isolated else {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=log,
        stderr=log,
        pass_fds=(held,),
        cwd=Path("/"),
    )
    if await process.wait() != 0:
        raise HostFailure("setsid could not start the daemon: see " + str(layout.logs / "daemon.log"))


class _Died(Exception):  # noqa: N818 - it says what happened; caught in this module
    pass


def _await_answer(layout: Layout, alive: int | None, otherwise: str) -> dict[str, Any]:
    """Ask until the daemon answers. `alive` becomes readable when it has died: then _Died."""
    until = time.monotonic() + UP_DEADLINE
    while time.monotonic() < until:
        if (status := _status(layout)) is not None:
            return status
        if alive is None:
            time.sleep(0.05)
        elif select.select([alive], [], [], 0.03)[0]:
            raise _Died
    raise DeadlineExceeded(f"{otherwise} within {UP_DEADLINE:g} seconds: see {layout.logs / 'daemon.log'}")


def _last_words(log_file: Path, began: int) -> str:
    with contextlib.suppress(OSError), log_file.open("rb") as file:
        file.seek(began)
        lines = file.read()[-16384:].decode(errors="replace").strip().splitlines()
        told = [line.partition(" ERROR bastide: ")[2] for line in lines]
        reasons = [text for text in told if text] or lines[-_LOG_TAIL:]
        if reasons:
            return "\n".join([f"the daemon could not start: {reasons[0]}", *reasons[1:], f"its log: {log_file}"])
    return f"the daemon ended at once and told nothing: see {log_file}"


def _end(layout: Layout) -> bool:
    """Send SIGTERM to the daemon and wait until it is gone. False when none ran."""
    pid = _found_pid(layout)
    if pid is None:
        return False
    if _under_unit(pid):
        asyncio.run(run.run(["systemctl", "stop", UNIT], deadline=DOWN_DEADLINE * 2))
        return True
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if _found_pid(layout) != pid:
            return False  # it ended, and its number may be another's now
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        if not select.select([handle], [], [], DOWN_DEADLINE)[0]:
            raise DeadlineExceeded(
                f"the daemon (process {pid}) does not end: see {layout.logs / 'daemon.log'}; "
                f"kill -9 {pid} harms no guest, and the next bastide up puts things in order"
            )
    finally:
        os.close(handle)
    return True


def _under_unit(pid: int) -> bool:
    try:
        return f"/{UNIT}" in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


def _guests(client: Client) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = client.get("/cluster/resources", type="vm")
    return rows


def _branch(row: dict[str, Any]) -> str:
    return f"/nodes/{row['node']}/{row['type']}/{row['vmid']}"


def _shut_down_guests(client: Client, timeout: int) -> list[str]:
    running = [row for row in _guests(client) if row.get("status") == "running"]
    tasks = [
        (row, client.post(f"{_branch(row)}/status/shutdown", {"timeout": timeout, "forceStop": True}))
        for row in running
    ]
    for row, upid in tasks:
        _wait(client, upid, f"guest {row['vmid']} does not shut down")
    return [f"shut down {row.get('name') or ''} ({row['vmid']})" for row in running]


def _destroy_guests(client: Client, request: DownRequest) -> list[str]:
    rows = _guests(client)
    if rows and not request.force:
        names = ", ".join(f"{row.get('name') or row['vmid']}" for row in rows[:5])
        raise WrongState(
            f"{len(rows)} {'guest exists' if len(rows) == 1 else 'guests exist'} "
            f"({names}{' ...' if len(rows) > 5 else ''}): remove with bastide rm first, or add --force to destroy all"
        )
    left = rows
    while left:
        kept = [(row, error) for row in left if (error := _try_to_destroy(client, row)) is not None]
        if len(kept) == len(left):
            raise kept[0][1]
        left = [row for row, _ in kept]  # templates, whose linked clones are gone by now
    return [f"destroyed {row.get('name') or ''} ({row['vmid']})" for row in rows]


def _try_to_destroy(client: Client, row: dict[str, Any]) -> BastideError | None:
    """Destroy a guest; what stands in the way of it, if something does."""
    failure = f"guest {row['vmid']} cannot be destroyed"
    vm = row["type"] == "qemu"
    try:
        if vm and row.get("status") == "running":
            _wait(client, client.post(f"{_branch(row)}/status/stop"), failure)
        # Only a container's method knows `force`.
        _wait(client, client.delete(_branch(row), force=None if vm else True, purge=True), failure)
    except NotFound:
        return None  # a copy of a restore test, which has gone by itself meanwhile
    except (HostFailure, WrongState) as error:
        return error
    return None


def _wait(client: Client, upid: str, what: str) -> None:
    from bastide.cli.progress import task_path  # noqa: PLC0415 - the same path rule

    while True:
        status = client.get(f"{task_path(upid)}/status")
        if status.get("status") != "running":
            break
        time.sleep(0.1)
    if str(status.get("exitstatus")) != "OK" and not str(status.get("exitstatus")).startswith("WARNINGS"):
        raise HostFailure(f"{what}: {status.get('exitstatus')}")
