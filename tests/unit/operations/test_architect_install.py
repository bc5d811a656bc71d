"""A recipe's steps, against guests that only note what is run in them; commands in a guest of either kind."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bastide.architect import entries
from bastide.base.errors import DeadlineExceeded, HostFailure, NotSupported, RunError, WrongState
from bastide.host import processes
from bastide.model.access import ROOT
from bastide.model.catalog import CatalogEntry, Recipe
from bastide.model.guest import Guest
from bastide.operations.architect import inside, install
from bastide.operations.rooms import Rooms
from framework.api import Api, call
from framework.guest_agent import VM, GuestAgent, rooms_with
from framework.rooms import TEMPLATE, fake_rooms

pytestmark = pytest.mark.anyio

PROBE = {"type": "command", "command": ["demo", "--status"], "contains": "ready", "seconds": 1}
RECIPE = {
    "packages": ["demo", "demo-tools"],
    "debconf": ["demo demo/mode select Fast"],
    "secrets": ["DEMO_PASSWORD"],
    "files": [
        {"path": "/etc/demo.conf", "text": "late\n", "mode": "0640"},
        {"path": "/etc/early.conf", "text": "early\n", "before": True},
    ],
    "run": ["demo-setup\n", "demo-tune\n"],
    "services": ["demo.service"],
    "probe": PROBE,
}


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate({**RECIPE, **changes})


class Log:
    """A task's log in memory."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, line: str) -> None:
        self.lines.append(line)


class Inside:
    """Commands in a guest: noted as `argv`, or as the script's first word of ours; `answers` say what they do."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.data: dict[str, bytes] = {}
        self.answers: dict[str, Callable[[], str]] = {}

    async def run(self, _rooms, _guest, argv, *, data=b"", env=None, deadline=60, line=None, check=True):
        step = " ".join(argv)
        if argv[0] == "/bin/sh":
            known = {install._SYSTEM: "system", install._BOOTED: "booted", install._ONLINE: "online"}
            known[install._SECRETS] = "secrets"
            text = data.decode().removeprefix("{\n").removesuffix("\n} </dev/null\n")
            step = " ".join([known.get(text, text.splitlines()[-1]), *argv[4:]])
        self.steps.append(step)
        self.data[step] = data
        output = "debian-12" if step == "system" else "ready" if step == "demo --status" else ""
        output = self.answers[step]() if step in self.answers else output
        for text in output.splitlines():
            if line is not None:
                line(text)
        return inside.Ended(0, output, "")

    async def write(self, _rooms, _guest, path, text, mode) -> None:
        self.steps.append(f"{path} {mode:o} {text.strip()}")

    def fails(self, step: str, stderr: str, output: tuple[str, ...] = ()) -> None:
        """Let a step fail."""

        def fail() -> str:
            raise RunError([step], 100, stderr)

        self.answers[step] = fail


@pytest.fixture
def commands(monkeypatch) -> Inside:
    made = Inside()
    monkeypatch.setattr(inside, "run", made.run)
    monkeypatch.setattr(inside, "write", made.write)
    monkeypatch.setattr(install, "_PAUSE", 0.01)
    return made


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    return await fake_rooms(tmp_path)


async def running(rooms: Rooms) -> Guest:
    """A container that the fake engine takes for running."""
    guest = Guest(100, "lxc", "pve", {"hostname": "web", "ostemplate": TEMPLATE})
    rooms.containers.guests[100] = type("Running", (), {"frozen": False})()
    return guest


async def installed(rooms: Rooms, wanted: Recipe, log: Log | None = None) -> Log:
    log = log or Log()
    await install.install(rooms, await running(rooms), wanted, log, name="demo")
    return log


async def test_the_steps_in_their_order(rooms, commands) -> None:
    await installed(rooms, recipe())
    apt = "apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0"
    keep = "-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold"
    assert commands.steps == [
        "booted",
        "system",
        "/etc/early.conf 644 early",
        "online",
        "debconf-set-selections",
        f"{apt} update",
        f"{apt} {keep} --no-install-recommends install -- demo demo-tools",
        "/etc/demo.conf 640 late",
        "secrets demo DEMO_PASSWORD",
        "demo-setup",
        "demo-tune",
        "systemctl --quiet enable -- demo.service",
        "systemctl restart -- demo.service",
        "demo --status",
    ]
    assert commands.data["debconf-set-selections"] == b"demo demo/mode select Fast\n"
    assert b". /root/demo.secrets\n" in commands.data["demo-setup"]


async def test_recommends_where_the_recipe_wants_them(rooms, commands) -> None:
    await installed(rooms, recipe(recommends=True))
    assert any("--install-recommends install" in step for step in commands.steps)


async def test_what_a_recipe_lacks_is_left_out(rooms, commands) -> None:
    await installed(rooms, Recipe.model_validate({"probe": PROBE}))
    assert commands.steps == ["booted", "system", "demo --status"]


async def test_another_system_is_refused_before_anything_changes(rooms, commands) -> None:
    commands.answers["system"] = lambda: "ubuntu-24.04"
    with pytest.raises(NotSupported, match=r"debian-12 and debian-13: CT 100 runs ubuntu-24\.04"):
        await installed(rooms, recipe())
    assert commands.steps == ["booted", "system"]


async def test_a_guest_that_does_not_run_is_told(rooms, commands) -> None:
    guest = Guest(101, "lxc", "pve", {"hostname": "web"})
    with pytest.raises(WrongState, match="CT 101 is not running: start it first"):
        await install.install(rooms, guest, recipe(), Log())
    assert commands.steps == []


async def test_without_a_network_it_says_what_is_missing(rooms, commands) -> None:
    commands.fails("online", "noise\nit cannot look up deb.debian.org\n")
    with pytest.raises(HostFailure, match=r"CT 100 is not ready: it cannot look up deb\.debian\.org"):
        await installed(rooms, recipe())


async def test_apts_own_words_for_a_missing_package(rooms, commands) -> None:
    step = next(text for text in await _steps(rooms, commands) if "install -- demo" in text)
    commands.fails(step, "E: Unable to locate package demo\n")
    with pytest.raises(HostFailure, match="apt-get failed in CT 100: E: Unable to locate package demo"):
        await installed(rooms, recipe())


async def test_what_was_interrupted_is_finished_and_a_lock_waited_for(rooms, commands, monkeypatch) -> None:
    monkeypatch.setattr(install, "_LOCK_PAUSE", 0)
    step = next(text for text in await _steps(rooms, commands) if text.endswith(" update"))
    problems = ["E: dpkg was interrupted, you must manually run 'dpkg --configure -a'", "E: Could not get lock /x"]

    def fail() -> str:
        if problems:
            raise RunError([step], 100, problems.pop(0))
        return ""

    commands.steps.clear()
    commands.answers[step] = fail
    await installed(rooms, recipe())
    at = commands.steps.index(step)
    assert commands.steps[at : at + 4] == [step, "dpkg --configure -a", step, step]


async def _steps(rooms, commands) -> list[str]:
    await installed(rooms, recipe())
    return commands.steps


async def test_a_script_that_fails_is_named(rooms, commands) -> None:
    commands.fails("demo-tune", "demo: no such table\n")
    with pytest.raises(HostFailure, match=r"script 2 of the recipe for demo failed in CT 100 .*: demo: no such table"):
        await installed(rooms, recipe())


async def test_a_service_that_does_not_start_shows_its_journal(rooms, commands) -> None:
    commands.fails("systemctl restart -- demo.service", "failed, see journalctl")
    commands.answers["journalctl --no-pager -q -o cat -n 15 --unit=demo.service"] = lambda: "a\nb\nno such port\n"
    log = Log()
    with pytest.raises(HostFailure, match=r"demo\.service did not start .* a \| b \| no such port"):
        await installed(rooms, recipe(), log)
    assert log.lines[-1] == "  no such port"


async def test_what_never_answers_shows_the_reason_and_the_journal(rooms, commands) -> None:
    commands.answers["demo --status"] = lambda: "starting"
    commands.answers["journalctl --no-pager -q -o cat -n 15 --unit=demo.service"] = lambda: "cannot bind\n"
    with pytest.raises(HostFailure) as caught:
        await installed(rooms, recipe())
    assert "does not answer after 1 seconds: the output of 'demo --status' does not contain 'ready'" in str(
        caught.value
    )
    assert str(caught.value).endswith("its journal ends with: cannot bind")


async def test_it_asks_until_there_is_an_answer(rooms, commands) -> None:
    answers = iter(["no", "no", "ready"])
    commands.answers["demo --status"] = lambda: next(answers)
    log = await installed(rooms, recipe())
    assert log.lines[-1] == "demo answers: demo --status"


async def test_an_address_is_asked_from_the_host(rooms, commands, monkeypatch) -> None:
    asked = []

    async def addresses(_rooms, _guest):
        return ["127.0.0.1", "203.0.113.9", "2001:db8::9"]

    async def check(_probe, address) -> None:
        asked.append(address)
        if len(asked) == 1:
            raise HostFailure("refused")

    monkeypatch.setattr(install, "addresses", addresses)
    monkeypatch.setattr(install.service_probe, "check", check)
    log = await installed(rooms, recipe(probe={"type": "http", "port": 80}))
    assert asked == ["203.0.113.9", "2001:db8::9"]
    assert log.lines[-1] == "demo answers: http://[2001:db8::9]:80/"


def entry(**changes: Any) -> CatalogEntry:
    extent = {"cores": 1, "memory": "64M", "disk": "1G"}
    size = {"minimum": extent, "usual": extent}
    values = {"name": "demo", "title": "Demo", "summary": "A demo", "category": "web", "size": size, "source": "none"}
    return CatalogEntry.model_validate({**values, **changes})


async def test_an_entry_without_a_recipe_says_where_to_look(rooms) -> None:
    with pytest.raises(NotSupported, match=r"no recipe for demo.*see https://demo\.example"):
        await install.install_task(rooms, ROOT, await running(rooms), entry(upstream="https://demo.example"))


async def test_as_a_task(rooms, commands) -> None:
    upid = await install.install_task(rooms, ROOT, await running(rooms), entry(recipe=RECIPE))
    assert (upid.type, upid.id) == ("install", "100")
    assert (await rooms.tasks.wait(upid)).exitstatus == "OK"


SECRETS = install._SECRETS.replace("/root/", "{}/")


async def test_secrets_are_made_once_and_for_root_alone(rooms, tmp_path) -> None:
    guest = await running(rooms)
    text = SECRETS.replace("{}", str(tmp_path))
    await inside.script(rooms, guest, text, "demo", "A", "AB")
    made = tmp_path / "demo.secrets"
    first = dict(line.split("=") for line in made.read_text().split())
    assert set(first) == {"A", "AB"}
    assert all(len(value) == 24 and value.isalnum() for value in first.values())
    assert first["A"] != first["AB"]
    assert made.stat().st_mode & 0o777 == 0o600
    await inside.script(rooms, guest, text, "demo", "A", "AB", "NEW")
    second = dict(line.split("=") for line in made.read_text().split())
    assert {key: second[key] for key in first} == first
    assert set(second) == {*first, "NEW"}


@pytest.fixture
def agent():
    made = GuestAgent()
    yield made
    made.close()


@pytest.fixture(params=["lxc", "qemu"])
async def place(request, rooms, agent) -> tuple[Any, Guest]:
    """Rooms and a guest of either kind, whose commands run here."""
    return (rooms, await running(rooms)) if request.param == "lxc" else (rooms_with(agent), VM)


async def test_a_command_in_either_kind(place) -> None:
    lines: list[str] = []
    script = "echo $A; cat; echo err >&2; exit 3"
    ended = await inside.run(
        *place, ["sh", "-c", script], data=b"in\n", env={"A": "x y"}, line=lines.append, check=False
    )
    assert (ended.code, ended.output, ended.errors) == (3, "x y\nin\n", "err\n")
    assert sorted(lines) == ["err", "in", "x y"]


async def test_a_failure_carries_its_errors(place) -> None:
    with pytest.raises(RunError, match="exit code 4: broken"):
        await inside.run(*place, ["sh", "-c", "echo broken >&2; exit 4"])


async def test_a_deadline_kills_in_either_kind(place, tmp_path) -> None:
    with pytest.raises(DeadlineExceeded, match=r"'sh' did not end within 0\.5 seconds"):
        await inside.run(*place, ["sh", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 60"], deadline=0.5)
    async with asyncio.timeout(30):
        while processes.started(int((tmp_path / "pid").read_text())) is not None:
            await asyncio.sleep(0.05)


async def test_a_script_with_arguments_whose_programs_read_nothing_of_it(place) -> None:
    text = 'cat\nprintf "%s\\n" "$2" <<END\nEND\nprintf "%s" "$1"'
    ended = await inside.script(*place, text, "a b", "c;d")
    assert ended.output == "c;d\na b"


async def test_a_script_stops_at_its_first_failure(place) -> None:
    with pytest.raises(RunError):
        await inside.script(*place, "false\necho on")
    with pytest.raises(RunError):
        await inside.script(*place, 'echo "$UNSET"')


async def test_only_the_end_of_a_long_output_is_kept(place, monkeypatch) -> None:
    monkeypatch.setattr(inside, "KEPT", 1000)
    ended = await inside.run(*place, ["sh", "-c", "seq 9000"])
    assert ended.output.endswith("\n9000\n")
    assert len(ended.output) <= 1000


async def test_a_long_input_arrives(place) -> None:
    data = os.urandom(700_000)
    ended = await inside.run(*place, ["wc", "-c"], data=data)
    assert ended.output.strip() == "700000"


async def test_who_may_install(tmp_path) -> None:
    api = await Api.make(tmp_path)
    await api.wait(await api.data("POST", "/nodes/pve/lxc", vmid=100, ostemplate=TEMPLATE, unprivileged=1))
    answer = await call(await api.token(), "POST", "/architect/install", guest="100", service="nginx")
    assert answer.status_code == 403
    user = await api.token("bob@pve", grants={"/vms/100": "PVEVMUser"})
    answer = await call(user, "POST", "/architect/install", guest="100", service="nginx")
    assert (answer.status_code, "not running" in answer.text) == (500, True), answer.text
    answer = await call(user, "POST", "/architect/install", guest="100", service="nginx", catalog="/etc")
    assert answer.status_code == 403
    answer = await call(api.root, "POST", "/architect/install", guest="100", service="no such thing at all")
    assert "no such service" in answer.text


FOLDER = Path(entries.__file__).with_name("catalog")
RECIPES = {
    found.name: found
    for path in sorted(FOLDER.glob("*.yaml"))
    if (found := entries.parse_entry(path.read_text(), path.name)).recipe is not None
}


def test_there_are_enough_recipes() -> None:
    assert len(RECIPES) >= 25


@pytest.mark.parametrize("name", RECIPES)
def test_a_shipped_recipe_is_in_order(name) -> None:
    found = RECIPES[name]
    assert found.recipe is not None
    assert found.recipe.probe.port in {None, *(port.port for port in found.ports)}
    assert found.recipe.services, "nothing would be started after a second run"
    text = "\n".join(found.recipe.run)
    assert [key for key in found.recipe.secrets if f"${key}" not in text] == []


SCRIPTS = [(name, found.recipe) for name, found in RECIPES.items() if found.recipe and found.recipe.run]
OURS = Recipe.model_validate({"run": [install._BOOTED, install._ONLINE, install._SECRETS], "probe": PROBE})


@pytest.mark.parametrize(("name", "found"), [*SCRIPTS, ("our own", OURS)])
def test_scripts_are_clean(name, found) -> None:
    head = "#!/bin/sh -eu\n" + "".join(f"{key}=x; export {key}\n" for key in found.secrets)
    argv = [str(Path(sys.executable).with_name("shellcheck")), "--severity=warning", "-"]
    for text in found.run:
        checked = subprocess.run(argv, input=head + text, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout
