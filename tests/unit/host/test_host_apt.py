"""APT sources: what is the distribution's own among them, and what it says for another release."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.host.apt import AptSource, parse_deb822, parse_one_line, release_origin, render, select

DEB822 = """\
# the distribution
Types: deb deb-src
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib non-free-firmware
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
Enabled: no
URIs: http://mirror.test/disabled
Suites: bookworm
Components: main

Types: deb-src
URIs: http://mirror.test/sources
Suites: bookworm
Components: main

Types: deb
URIs: https://vendor.test/linux/debian
Suites: bookworm
Components: stable
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBFit2ioBEADhWpZ8
 -----END PGP PUBLIC KEY BLOCK-----
"""
ONE_LINE = """\
deb http://mirror.test/debian bookworm main non-free # the archive
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.test/debian bookworm-updates main
#deb http://mirror.test/debian bookworm contrib
deb-src http://mirror.test/debian bookworm main
deb [signed-by=/etc/apt/keyrings/vendor.gpg] https://vendor.test/debian bookworm main
deb https://other.test/apt bookworm-pgdg main
deb cdrom:[Debian]/ bookworm main
"""


def shown(sources: list[AptSource]) -> list[tuple[str, ...]]:
    return [(*source.uris, *source.suites, *source.components) for source in sources]


def test_a_deb822_file_is_read_as_apt_does() -> None:
    found = parse_deb822(DEB822)
    assert [source.uris[0] for source in found] == [
        "http://mirror.test/debian",
        "http://mirror.test/debian-security",
        "https://vendor.test/linux/debian",
    ]
    assert "-----BEGIN PGP" in found[2].signed_by
    assert parse_deb822(render(found)) == found


def test_only_the_distributions_own_archive_is_used_for_another_release() -> None:
    assert shown(select(parse_deb822(DEB822), "debian", "trixie")) == [
        ("http://mirror.test/debian", "trixie", "trixie-updates", "main"),
        ("http://mirror.test/debian-security", "trixie-security", "main"),
    ]
    assert shown(select(parse_one_line(ONE_LINE), "debian", "bookworm")) == [
        ("http://mirror.test/debian", "bookworm", "main"),
        ("http://mirror.test/debian", "bookworm-updates", "main"),
    ]
    assert select(parse_deb822(DEB822), "ubuntu", "noble") == []


def test_what_a_release_file_says_counts_more_than_a_name() -> None:
    source = AptSource(("http://cache.test/mirror1",), ("stable", "stable-security"), ("main",))
    assert select([source], "debian", "bookworm") == []
    mine = select([source], "debian", "bookworm", lambda _uri, _suite: "Debian")
    assert shown(mine) == [("http://cache.test/mirror1", "bookworm", "bookworm-security", "main")]
    looks = AptSource(("http://vendor.test/debian",), ("bookworm",), ("main",))
    assert select([looks], "debian", "bookworm", lambda _uri, _suite: "Vendor") == []


def test_a_security_archive_alone_is_no_system() -> None:
    source = AptSource(("http://mirror.test/debian-security",), ("bookworm-security",), ("main",))
    assert select([source], "debian", "bookworm") == []


def test_ubuntu() -> None:
    text = """deb http://archive.test/ubuntu/ noble main restricted universe
              deb http://security.test/ubuntu noble-security main"""
    assert shown(select(parse_one_line(text), "ubuntu", "jammy")) == [
        ("http://archive.test/ubuntu/", "jammy", "main", "universe"),
        ("http://security.test/ubuntu", "jammy-security", "main"),
    ]


def test_the_origin_is_read_from_what_apt_fetched(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "mirror.test_debian_dists_bookworm_InRelease").write_text("Hash: X\nOrigin: Debian\nLabel: Debian\n")
    assert release_origin("http://user@mirror.test/debian/", "bookworm", tmp_path) == "Debian"
    assert release_origin("http://mirror.test/debian", "trixie", tmp_path) is None


@given(st.text(alphabet=string.printable, max_size=400))
def test_no_text_makes_the_readers_fail(text: str) -> None:
    for source in [*parse_deb822(text), *parse_one_line(text)]:
        select([source], "debian", "bookworm")


@pytest.mark.parametrize("line", ["deb", "deb [", "deb [arch=amd64]", "deb http://x", "rpm http://x y z"])
def test_lines_that_are_no_source(line: str) -> None:
    assert parse_one_line(line) == []
