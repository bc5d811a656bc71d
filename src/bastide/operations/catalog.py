"""Which container templates this host can build, what goes into them, and how their files are named."""

import re
from dataclasses import dataclass

from bastide.host import apt
from bastide.host.mmdebstrap import Recipe
from bastide.model.record import Scalar

_PACKAGES = (
    *("systemd-sysv", "systemd", "dbus", "libpam-systemd", "tzdata", "procps"),
    *("iproute2", "iputils-ping", "netbase", "ca-certificates", "openssh-server"),
    *("less", "nano", "vim-tiny"),
)
_UNMERGED = ("bullseye",)
"""Releases whose /usr may still be apart."""

_LEAN = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
    "/usr/share/zoneinfo/right/*",
    "/usr/share/zoneinfo/posix/*",
)
_KEPT = ("/usr/share/doc/*/copyright",)
_HOST_KEYS = (
    "[Unit]\\nDescription=Make ssh host keys\\nBefore=ssh.service\\n"
    "ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key\\n\\n"
    "[Service]\\nType=oneshot\\nExecStart=/usr/bin/ssh-keygen -A\\n\\n"
    "[Install]\\nWantedBy=multi-user.target\\n"
)
_HOOKS = (
    """chroot "$1" dpkg-query -W -f='${Package}\\t${Version}\\n' > "$BASTIDE_PACKAGES" """.strip(),
    f"""printf '{_HOST_KEYS}' > "$1/etc/systemd/system/ssh-host-keys.service" """.strip(),
    'chroot "$1" systemctl enable systemd-networkd.service ssh-host-keys.service',
    'chroot "$1" systemctl disable systemd-networkd-wait-online.service',
    # A container has no say in the kernel's modules; Debian 13's unit fails for it.
    'chroot "$1" systemctl mask systemd-modules-load.service',
    'rm -f "$1"/etc/ssh/ssh_host_*_key "$1"/etc/ssh/ssh_host_*_key.pub',
    'rm -f "$1/etc/hostname" "$1/etc/resolv.conf" "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"',
    'rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"',
    """printf 'LANG=C.UTF-8\\n' > "$1/etc/default/locale" """.strip(),
    'rm -rf "$1"/var/cache/apt/*.bin "$1"/var/log/apt/* "$1"/var/log/dpkg.log "$1"/var/log/bootstrap.log',
)
_NAME = re.compile(r"(?:local:|build:)?([a-z]+)(?:[-/ ]([0-9.]+|[a-z]+))?(?:-standard)?(?:_.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Buildable:
    """A release whose template this host may be able to build, such as Debian 12."""

    distribution: str
    version: str

    @property
    def codename(self) -> str:
        """The release's code name: `bookworm`."""
        return apt.CODENAMES[self.distribution][self.version]

    @property
    def package(self) -> str:
        """The name its templates begin with: `debian-12-standard`."""
        return f"{self.distribution}-{self.version}-standard"

    def recipe(self, sources: list[apt.AptSource], architecture: str) -> Recipe:
        """What mmdebstrap has to make."""
        return Recipe(
            codename=self.codename,
            architecture=architecture,
            sources=sources,
            packages=_PACKAGES if self.codename in _UNMERGED else (*_PACKAGES, "usr-is-merged"),
            excludes=_LEAN,
            includes=_KEPT,
            hooks=_HOOKS,
        )

    def entry(self, architecture: str) -> dict[str, Scalar]:
        """Its line in the list of available templates, in Proxmox VE's keys."""
        title = self.distribution.capitalize()
        return {
            "package": self.package,
            "version": self.version,
            "os": f"{self.distribution}-{self.version}",
            "section": "system",
            "type": "lxc",
            "architecture": architecture,
            "template": f"{self.package}_{self.version}_{architecture}.tar.zst",
            "headline": f"{title} {self.version} ({self.codename}), built on this host",
            "description": f"A small {title} {self.version} system, built from this host's own package sources.",
            "source": "host",
            "location": "host",
        }


def buildables() -> list[Buildable]:
    """Every release that the catalog knows."""
    return [Buildable(name, version) for name, versions in apt.CODENAMES.items() for version in versions]


def find_buildable(name: str) -> Buildable | None:
    """The release that a name means: `debian-12`, `debian/12`, `debian/bookworm`, `bookworm`, or a template's name."""
    match = _NAME.fullmatch(name.strip().lower())
    if match is None:
        return None
    for one in buildables():
        if (match[1] == one.distribution and match[2] in (one.version, one.codename)) or (
            match[1] == one.codename and match[2] is None
        ):
            return one
    return None
