"""The package asks for what the launcher would install, and its unit leaves guests alone."""

import configparser
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FOR_TESTS_OR_BUILDING = {
    "btrfs-progs", "busybox-static", "chromium", "faketime", "fuse3", "grub-rescue-pc", "ipxe", "ldap-utils", "lzop",
    "openssh-client", "python3-venv", "samba", "slapd", "smbclient", "strace", "xfsprogs",
}  # fmt: skip


def wanted() -> set[str]:
    return set(re.findall(r"^\s*(?:\[.*\|\| )?want ([a-z0-9.+-]+) ", (ROOT / "bastide").read_text(), re.MULTILINE))


def declared() -> set[str]:
    text = (ROOT / "packaging/build-deb").read_text()
    fields = re.findall(r"^(?:Depends|Recommends): (.*(?:\n .*)*)", text, re.MULTILINE)
    return {entry.split()[0] for field in fields for entry in field.replace("\n", " ").split(",")}


def test_the_package_depends_on_what_the_launcher_brings() -> None:
    assert {"lxc", "qemu-system-x86", "swtpm", "apparmor"} <= wanted()
    assert wanted() - FOR_TESTS_OR_BUILDING - declared() == set()


def test_the_unit_lets_guests_outlive_the_daemon() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((ROOT / "packaging/bastide.service").read_text())
    service = unit["Service"]
    assert (service["KillMode"], service["Delegate"], service["OOMPolicy"]) == ("process", "yes", "continue")
    # Each would put the daemon's children into a mount namespace or take from guests what they could never have again.
    for name in service:
        assert not re.match(r"(Protect|Private|ReadOnly|Inaccessible|NoNewPrivileges|SystemCall|Restrict)", name)
    lost = service["CapabilityBoundingSet"]
    assert lost.startswith("~")
    # What neither the daemon nor a guest of any kind ever has a use for.
    harmless = {"CAP_SYS_TIME", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_SYS_PACCT", "CAP_AUDIT_READ"}
    assert set(lost[1:].split()) <= harmless


def test_the_package_brings_the_page_built() -> None:
    build = (ROOT / "packaging/build-deb").read_text()
    assert build.index('"$top/bastide" build-page') < build.index("find src")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "src/bastide/page/**" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["artifacts"]
