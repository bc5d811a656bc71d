"""Names in a multipart body: UTF-8 as browsers send it (RFC 7578, section 5.1), and what is none is refused."""

import pytest

from bastide.api.errors import RequestRefused
from bastide.api.multipart import text_fields

TYPE = "multipart/form-data; boundary=x"


def body(name: bytes) -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\nvalue\r\n--x--\r\n'


@pytest.mark.parametrize("name", ["plain", "é", "\U00072692", "日本"])
def test_names_are_utf_8(name: str) -> None:
    assert text_fields(TYPE, body(name.encode())) == [(name, "value")]


def test_other_bytes_are_refused() -> None:
    with pytest.raises(RequestRefused, match="not readable"):
        text_fields(TYPE, body(b"\xff\xfe"))
