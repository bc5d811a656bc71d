"""This host's APT sources: reading them, and what they say for a release of the same distribution.

Sources: sources.list(5) for the one-line and the deb822 form. No archive's address is known here: whatever a host
fetches its own packages from also serves the containers' templates.
"""

import platform
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from bastide.base.errors import NotSupported
from bastide.host.run import run

CODENAMES: dict[str, dict[str, str]] = {
    "debian": {"11": "bullseye", "12": "bookworm", "13": "trixie", "14": "forky"},
    "ubuntu": {"22.04": "jammy", "24.04": "noble", "26.04": "resolute"},
}
"""Releases whose templates can be built, by distribution and version."""

_ROLES = ("-security", "-updates", "/updates", "")
_ALIASES = {"debian": ("stable", "oldstable", "oldoldstable", "testing"), "ubuntu": ()}
_COMPONENTS = {"debian": ("main",), "ubuntu": ("main", "universe")}
_OPTION = re.compile(r"([a-z-]+)[+-]?=(\S+)", re.ASCII)
_SCHEMES = ("http", "https", "file", "mirror+http", "mirror+https")


@dataclass(frozen=True, slots=True)
class AptSource:
    """One archive: `signed_by` is a keyring's path, an embedded key, or empty; `architectures` empty means all."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""
    architectures: tuple[str, ...] = ()


def parse_one_line(text: str) -> list[AptSource]:
    """Read a `.list` file; source packages, comments and lines that APT would not take are left out."""
    found = []
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip()
        if not line.startswith("deb"):
            continue
        match = re.fullmatch(r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<rest>.*)", line)
        if match is None:
            continue
        options = dict(_OPTION.findall(match["options"] or ""))
        found.append(
            AptSource(
                uris=(match["uri"],),
                suites=(match["suite"],),
                components=tuple(match["rest"].split()),
                signed_by=options.get("signed-by", ""),
                architectures=tuple(options["arch"].split(",")) if "arch" in options else (),
            )
        )
    return found


def parse_deb822(text: str) -> list[AptSource]:
    """Read a `.sources` file; disabled stanzas and source packages are left out."""
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t") and name:
                fields[name] += "\n" + line
            else:
                key, colon, value = line.partition(":")
                if colon:
                    name = key.strip().lower()
                    fields[name] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() not in (
            "no",
            "false",
            "0",
        ):
            found.append(
                AptSource(
                    uris=tuple(fields.get("uris", "").split()),
                    suites=tuple(fields.get("suites", "").split()),
                    components=tuple(fields.get("components", "").split()),
                    signed_by=fields.get("signed-by", ""),
                    architectures=tuple(fields.get("architectures", "").split()),
                )
            )
    return found


def host_sources(etc: Path = Path("/etc/apt")) -> list[AptSource]:
    """Every enabled binary source of this host."""
    found: list[AptSource] = []
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        if path.is_file() and path.suffix in (".list", ".sources"):
            text = path.read_text(errors="replace")
            found += parse_deb822(text) if path.suffix == ".sources" else parse_one_line(text)
    return found


def select(
    sources: Iterable[AptSource],
    distribution: str,
    codename: str,
    origin: Callable[[str, str], str | None] = lambda _uri, _suite: None,
) -> list[AptSource]:
    """The distribution's own archives among `sources`, with their suites turned to the release `codename`.

    `origin(uri, suite)` is the `Origin` that a fetched Release file says, or None when there is none. Third-party
    archives are left out. Empty when the host does not use the distribution's archive.
    """
    own = {*CODENAMES[distribution].values(), *_ALIASES[distribution]}
    found: dict[AptSource, None] = {}
    for source in sources:
        uris = tuple(uri for uri in source.uris if urlsplit(uri).scheme in _SCHEMES)
        roles: dict[str, None] = {}
        for suite in source.suites:
            role = next(role for role in _ROLES if suite.endswith(role))
            known = suite.removesuffix(role) in own and _is_own(source, uris, suite, distribution, origin)
            if known:
                roles["-security" if role == "/updates" else role] = None
        components = tuple(name for name in source.components if name in _COMPONENTS[distribution])
        if roles and uris and components:
            suites = tuple(codename + role for role in roles)
            found[replace(source, uris=uris, suites=suites, components=components)] = None
    return list(found) if any(codename in source.suites for source in found) else []


def _is_own(
    source: AptSource,
    uris: tuple[str, ...],
    suite: str,
    distribution: str,
    origin: Callable[[str, str], str | None],
) -> bool:
    origins = {said.lower() for uri in uris if (said := origin(uri, suite)) is not None}
    if origins:
        return origins == {distribution}
    if source.signed_by.startswith("/"):
        return Path(source.signed_by).name.startswith(f"{distribution}-archive-")
    # APT's own trusted keys: an archive that no Release file speaks for has at least to look like the distribution's.
    wanted = {distribution, f"{distribution}-security", f"{distribution}-ports"}
    return not source.signed_by and all(urlsplit(uri).path.rstrip("/").rpartition("/")[2] in wanted for uri in uris)


def release_origin(uri: str, suite: str, lists: Path = Path("/var/lib/apt/lists")) -> str | None:
    """The `Origin` of an archive as the host fetched it last, or None. Raises nothing."""
    parts = urlsplit(uri)
    name = f"{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/dists/{suite}".replace("_", "%5f").replace(
        "/", "_"
    )
    for kind in ("InRelease", "Release"):
        try:
            text = (lists / f"{name}_{kind}").read_text(errors="replace")
        except OSError:
            continue
        match = re.search(r"^Origin:\s*(.+?)\s*$", text, re.MULTILINE)
        return match[1] if match else None
    return None


def render(sources: Iterable[AptSource]) -> str:
    """The deb822 form of sources that were read from this host's own files."""
    stanzas = []
    for source in sources:
        fields = {
            "Types": "deb",
            "URIs": " ".join(source.uris),
            "Suites": " ".join(source.suites),
            "Components": " ".join(source.components),
            "Architectures": " ".join(source.architectures),
            "Signed-By": source.signed_by,
        }
        stanzas.append("".join(f"{key}: {value}\n" for key, value in fields.items() if value))
    return "\n".join(stanzas)


def usable(distribution: str, version: str) -> list[AptSource]:
    """This host's sources for a release. Raises NotSupported when it has none."""
    codename = CODENAMES.get(distribution, {}).get(version)
    found = select(host_sources(), distribution, codename, release_origin) if codename else []
    if not found:
        raise NotSupported(
            f"this host's APT sources do not serve {distribution} {version}; "
            "`bastide image pull` brings a template from a URL or an image server"
        )
    return found


async def architecture() -> str:
    """The host's architecture in Debian's word."""
    try:
        return (await run(["dpkg", "--print-architecture"])).text.strip()
    except NotSupported:
        return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


async def proxy_options() -> list[str]:
    """The host's APT proxy settings, as options of another APT."""
    try:
        text = (await run(["apt-config", "dump", "--format", "%f %v%n"], check=False)).text
    except NotSupported:
        return []
    lines = (line.partition(" ") for line in text.splitlines())
    wanted = re.compile(r"Acquire::(https?|ftp)::(Proxy|Proxy-Auto-Detect)(::\S+)?")
    return [f'{key} "{value}";' for key, _, value in lines if wanted.fullmatch(key) and value and '"' not in value]
