"""`advise`: what it asks of the API, what it prints, and its questions."""

import itertools
import json
import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.architect.advice import advise
from bastide.architect.systems import SYSTEMS
from bastide.base.errors import InvalidParameter
from bastide.cli import advice_text
from bastide.model.advice import Advice, HostFacts
from bastide.model.catalog import CatalogEntry
from bastide.model.service import Service

EXTENT = {"cores": 1, "memory": "256M", "disk": "4G"}
NGINX = CatalogEntry.model_validate(
    {
        "name": "nginx", "title": "nginx", "summary": "Web server", "category": "web", "source": "ours",
        "size": {"minimum": EXTENT, "usual": EXTENT}, "ports": [{"port": 80}],
    }
)  # fmt: skip
ROW = {"name": "nginx", "title": "nginx", "summary": "Web server", "category": "web", "aliases": ["engine-x"]}
PATH = "/architect/advise"


def answer(entry: CatalogEntry | None = None, **service: Any) -> dict[str, Any]:
    """An advice as the API gives it."""
    return advise(Service.parse(service), entry, HostFacts()).model_dump(mode="json")


@pytest.fixture
def host(daemon, refusal):
    """A daemon whose architect is the real one; the catalog holds nginx alone."""

    def ask(params: dict[str, Any]) -> dict[str, Any]:
        service = {
            key: value[0] if key != "devices" and isinstance(value, list) else value for key, value in params.items()
        }
        if isinstance(service.get("devices"), str):
            service["devices"] = [service["devices"]]
        try:
            return answer(NGINX if service.get("service") == "nginx" else None, **service)
        except InvalidParameter as error:
            raise refusal(400, "Parameter verification failed.", error.errors) from None

    daemon.on("POST", PATH, ask)
    daemon.on("GET", "/architect/catalog", lambda params: [ROW] if params["query"] in ("nginx", "engine-x") else [])
    daemon.on("GET", "/architect/catalog/nginx", NGINX.model_dump(mode="json", exclude_none=True))
    return daemon


def test_options_are_the_keys_of_a_service(run, host):
    host.on("POST", PATH, answer())
    run(
        *["advise", "nginx", "--os", "debian-12", "--name", "web", "--exposure", "internet", "--isolation", "normal"],
        *["--tenants", "trusted", "--engine", "docker", "--device", "gpu:shared", "--device", "tun"],
        *["--kernel-module", "zfs", "--kernel-parameter", "quiet", "--own-kernel", "--kernel-version", "5.4"],
        *["--no-live-migration", "--nfs", "client", "--nested", "--instances", "3", "--priority", "density"],
        *["--cores", "2", "--memory", "1G", "--disk", "8G", "--appliance", "--no-untrusted-code", "--ephemeral"],
        "--vm",
    )
    assert host.posted("POST", PATH) == {
        "service": "nginx", "os": "debian-12", "name": "web", "exposure": "internet", "isolation": "normal",
        "tenants": "trusted", "engine": "docker", "devices": ["gpu:shared", "tun"],
        "kernel": {"own": True, "version": "5.4", "modules": ["zfs"], "parameters": ["quiet"]},
        "live_migration": False, "nfs": "client", "nested_virtualization": True, "instances": 3,
        "priority": "density", "cores": 2, "memory": "1G", "disk": "8G", "appliance": True, "untrusted_code": False,
        "ephemeral": True, "kind": "vm",
    }  # fmt: skip


@pytest.mark.parametrize("options", [["--ct", "--vm"], ["--kind", "ct", "--vm"]])
def test_two_kinds_are_refused(run, host, options):
    ended = run("advise", "nginx", *options)
    assert (ended.code, ended.err) == (2, "error: kind: one kind only: ct or vm\n")
    assert host.calls == []


def test_json_is_the_answer_itself(run, host):
    assert run("advise", "nginx", "--json").json == answer(NGINX, service="nginx")


def test_the_text_tells_the_kind_first_and_the_command_last(run, host):
    lines = run("advise", "nginx").out.splitlines()
    assert lines[0] == "nginx: a container  confidence: moderate"
    text = "\n".join(lines)
    assert "ct-default, weak: os: debian-12 (assumed)" in text
    assert "unless     It would be a VM if\n           · the internet could reach it (exposure: internet)" in text
    assert "--exposure internet|lan|none (assumed: lan)" in text
    assert "--live-migration or --no-live-migration (assumed: false)" in text
    assert "published figures" in text
    assert "\nmake it    bastide launch debian-12 nginx" in text
    assert "\nby API     POST /api2/json/nodes/localhost/lxc" in text
    assert "\033" not in text


FILE = """\
name: blog

service: nginx
memory: {memory}
devices: [{{type: gpu, mode: {mode}}}]
"""


def test_a_file_is_a_service_and_options_stand_above_it(run, host, tmp_path):
    file = tmp_path / "blog.yaml"
    file.write_text(FILE.format(memory="1G", mode="shared"))
    assert run("advise", "-f", str(file), "--memory", "2G").code == 0
    assert host.posted("POST", PATH) == {
        "name": "blog", "service": "nginx", "memory": "2G", "devices": [{"type": "gpu", "mode": "shared"}],
    }  # fmt: skip
    assert run("advise", "-f", "-", "--json", text="os: windows-11\n").json["kind"] == "vm"


def test_an_empty_list_in_a_file_is_not_left_out(run, host):
    assert run("advise", "-f", "-", text="service: nginx\ndevices: []\n").code == 0
    assert host.posted("POST", PATH) == {"service": "nginx", "devices": []}


def test_what_is_wrong_in_a_file_names_file_and_line_before_anything_is_asked(run, host, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(FILE.format(memory="12", mode="loud"))
    ended = run("advise", "-f", str(file))
    assert ended.code == 2
    assert ended.err.splitlines() == [
        f"error: {file}: line 4: memory: say the unit: 12M or 12G",
        f"       {file}: line 5: devices[0].mode: Input should be 'whole', 'shared' or 'node'",
    ]
    assert host.calls == []


def test_what_the_architect_finds_wrong_in_a_file_names_the_line_too(run, host, refusal):
    host.on("POST", PATH, refusal(400, "Parameter verification failed.", {"os": "is not known", "kind": "no"}))
    assert run("advise", "-f", "-", text="\nname: x\nos: plan9\n").err.splitlines() == [
        "error: -: line 3: os: is not known",
        "       kind: no",
    ]
    host.on("POST", PATH, refusal(500, "no such service 'ngnix' in the catalog"))
    ended = run("advise", "-f", "-", text="name: x\nservice: ngnix\n")
    assert (ended.code, ended.err) == (3, "error: -: line 2: service: no such service 'ngnix' in the catalog\n")


@pytest.mark.parametrize("name", ["/nonexistent", "/"])
def test_a_file_that_cannot_be_read_is_told(run, host, name):
    ended = run("advise", "-f", name)
    assert ended.code == 2
    assert "cannot be read" in ended.err


# the interview


def asked(err: str) -> list[str]:
    """The questions that were asked."""
    return [line for line in err.splitlines() if line and not line.startswith(" ") and "error" not in line]


def test_the_interview_asks_what_the_catalog_does_not_know(run, host):
    ended = run("advise", "--json", text="engine-x\ninternet\n\nyes\n")
    assert (ended.json["kind"], ended.json["service"]) == ("vm", "nginx")
    assert "What do you want to run?" in asked(ended.err)[0]
    assert "  nginx: Web server" in ended.err
    assert not any("engine" in line for line in asked(ended.err)[1:])
    assert host.posted("POST", PATH)["exposure"] == "internet"


def test_what_is_not_in_the_catalog_is_described(run, host):
    ended = run("advise", "--json", text="My Thing\ndebian\ngpu, tun\nwhole\n")
    assert (ended.json["kind"], ended.json["name"]) == ("vm", "my-thing")
    sent = host.posted("POST", PATH)
    assert sent["devices"] == ["gpu:whole", "tun"]
    assert "the whole GPU" in asked(ended.err)[3]


def test_wrong_answers_are_asked_again_and_the_end_of_the_input_means_defaults(run, host):
    ended = run("advise", "--json", text="nginx\nmoon\nl\n")
    assert ended.json["kind"] == "ct"
    assert "one of internet, lan, none" in ended.err
    assert host.posted("POST", PATH)["exposure"] == "lan"
    unknown = run("advise", "--json", text="x\nplan9\ndebian-12\n")
    assert "plan9" in unknown.err
    assert unknown.json["os"] == "debian-12"


@pytest.mark.parametrize("text", ["", "\n" * 50, "no\n" * 50, "nginx\n" * 50, "\x1b[2J\n" * 50])
def test_there_are_never_more_than_eight_questions(run, host, text):
    ended = run("advise", "--json", text=text)
    questions = {line.partition("[")[0] for line in asked(ended.err)}
    assert 1 <= len(questions) <= 8, ended.err
    assert ended.code in (0, 2)
    assert "\033" not in ended.err


def test_several_entries_are_to_choose_from(run, host):
    rows = [ROW, {**ROW, "name": "apache", "title": "Apache", "aliases": []}]
    host.on("GET", "/architect/catalog", rows)
    ended = run("advise", "--json", text="web server\nng\n")
    assert "  apache: Apache" in ended.err
    assert ended.json["service"] == "nginx"


# the text itself


@given(
    st.sampled_from(sorted(SYSTEMS)),
    st.sampled_from([None, "internet", "lan"]),
    st.sampled_from([None, "docker"]),
    st.integers(40, 200),
)
def test_lines_are_no_wider_than_the_terminal_where_words_allow(os, exposure, engine, width):
    advice = answer(os=os, exposure=exposure, engine=engine, devices=["gpu:whole"], instances=2)
    lines = advice_text.render(advice, width)
    for line in lines:
        assert len(line) <= width or " " not in line.strip().removeprefix("· "), line
    assert lines[0].startswith(f"{advice['name']}")
    assert not any(not line and not after for line, after in itertools.pairwise(lines))


def test_text_of_others_cannot_move_the_cursor():
    advice = {**answer(), "summary": "a\x1b[2Jb", "notes": ["c\rd"], "command": "bastide launch \x07"}
    assert not [line for line in advice_text.render(advice, 80) if any(ord(char) < 32 for char in line)]


def test_one_line_tells_why():
    assert advice_text.because(answer(NGINX, service="nginx")).startswith("nginx: container, because it is a Linux")
    overruled = answer(NGINX, service="nginx", kind="vm")
    assert advice_text.because(overruled) == overruled["summary"]


def test_figures_of_one_source_tell_it_once_and_emulated_ones_are_marked():
    cost = {"kind": "ct", "memory": 15 << 20, "source": "measured", "taken": "2026-11-27T01:02:03Z"}
    advice = Advice.model_validate(
        {**answer(), "cost": cost, "cost_other": {**cost, "kind": "vm", "start": 40.0, "emulated": True}}
    ).model_dump(mode="json")
    text = "\n".join(advice_text.render(advice, 120))
    assert (
        textwrap.dedent("""\
        cost       container: 15 MiB memory when idle
                   VM: 15 MiB memory when idle, 40.0 s to start (emulated, without KVM)
                   measured on this host, 2026-11-27
        """)
        in text
    )


def test_the_root_that_was_given_is_in_the_command():
    assert "bastide launch --root /x debian-12 debian-12" in "\n".join(advice_text.render(answer(), 500, " --root /x"))
    assert json.dumps(answer()) == json.dumps(answer())
