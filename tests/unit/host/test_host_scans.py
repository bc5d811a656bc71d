"""What servers offer, as their tools print it: plain, and anything."""

from hypothesis import given
from hypothesis import strategies as st

from bastide.host import scans, smb
from bastide.host.scans import Export
from bastide.host.smb import Share

EXPORTS = "/srv/media        192.0.2.0/24,backup.example.org\n/srv/my own disks (everyone)\n/srv/vm           *\n"
SHARES = (
    "Disk|media|Films and music\nDisk|C$|Default share\nIPC|IPC$|IPC Service (nas)\nDisk|My Files|\nPrinter|laser|\n"
)


def test_plain_answers_are_read() -> None:
    assert scans.parse_exports(EXPORTS) == [
        Export("/srv/media", "192.0.2.0/24,backup.example.org"),
        Export("/srv/my own disks", "(everyone)"),
        Export("/srv/vm", "*"),
    ]
    assert smb.parse_shares(SHARES) == [Share("media", "Films and music"), Share("My Files", "")]
    assert scans.parse_datasets("tank\ntank/data\ntank/data/subvol-100-disk-0\ntank/basevol-9000-disk-1\n") == [
        "tank", "tank/data",
    ]  # fmt: skip


@given(st.text())
def test_anything_is_read_or_left_out(text: str) -> None:
    for export in scans.parse_exports(text):
        assert export.path.startswith("/")
        assert export.clients
    for share in smb.parse_shares(text):
        assert share.share
        assert not share.share.endswith("$")
    scans.parse_datasets(text)


PATHS = st.from_regex(r"/[a-z0-9][a-z0-9 ]{0,10}[a-z0-9]", fullmatch=True)
CLIENTS = st.from_regex(r"[a-z0-9.*/(),]{1,20}", fullmatch=True)


@given(st.lists(st.builds(Export, PATHS, CLIENTS), max_size=5))
def test_padded_columns_come_apart(exports: list[Export]) -> None:
    width = max((len(export.path) for export in exports), default=0)
    text = "".join(f"{export.path:<{width}} {export.clients}\n" for export in exports)
    assert scans.parse_exports(text) == exports


def test_no_server_is_an_option_and_no_secret_an_argument() -> None:
    assert scans.showmount("nas")[-2:] == ["--", "nas"]
    assert smb.listing("nas", None)[-1] == "//nas"
    assert "/proc/self/fd/9" in smb.listing("nas", "/proc/self/fd/9")
