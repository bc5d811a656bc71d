"""What second factors are made of: sources of codes as URIs, RFC 6238's codes, recovery codes, the site of keys."""

from base64 import b32encode

import pytest

from bastide.access import recovery
from bastide.access.totp import TotpSecret
from bastide.base.errors import InvalidParameter
from bastide.model.factors import WebauthnOptions


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "https://example.org/?secret=" + "A" * 32,
        "otpauth://hotp/x?secret=" + "A" * 32,
        "otpauth://totp/x?secret=AAAA",
        "otpauth://totp/x?secret=" + "A" * 400,
        "otpauth://totp/x?secret=" + "1" * 32,
        "otpauth://totp/x",
        "otpauth://totp/x?encoder=steam&secret=" + "A" * 32,
        "otpauth://totp/x?digits=4&secret=" + "A" * 32,
        "otpauth://totp/x?digits=x&secret=" + "A" * 32,
        "otpauth://totp/x?period=0&secret=" + "A" * 32,
        "otpauth://totp/x?period=100000&secret=" + "A" * 32,
        "otpauth://totp/x?algorithm=MD5&secret=" + "A" * 32,
        "otpauth://[/x?secret=" + "A" * 32,
    ],
)
def test_what_is_no_source_of_codes_is_refused(uri: str) -> None:
    with pytest.raises(InvalidParameter, match="totp"):
        TotpSecret.from_uri(uri)


# RFC 6238, appendix B: (algorithm, seconds, code of 8 digits).
@pytest.mark.parametrize(
    ("algorithm", "key", "now", "code"),
    [
        ("SHA1", b"12345678901234567890", 59, "94287082"),
        ("SHA256", b"12345678901234567890123456789012", 1111111109, "68084774"),
        ("SHA512", b"1234567890" * 6 + b"1234", 20000000000, "47863826"),
    ],
)
def test_codes_are_the_rfcs(algorithm: str, key: bytes, now: int, code: str) -> None:
    uri = f"otpauth://totp/x?digits=8&algorithm={algorithm}&secret={b32encode(key).decode().rstrip('=')}"
    secret = TotpSecret.from_uri(uri)
    assert TotpSecret.from_text(secret.to_text()) == secret
    assert secret.step_of(code, now) == now // 30
    assert secret.step_of(f" {code} ", now) == now // 30
    for wrong in (code[:-1], code + "0", "-1", "١٢٣٤٥٦٧٨", ""):
        assert secret.step_of(wrong, now) is None


def test_recovery_codes_have_64_random_bits() -> None:
    kept, codes = recovery.make(5)
    assert all(len(code.replace("-", "")) == 16 for code in codes)
    assert recovery.spend(kept, codes[0][:-1]) is None
    assert kept.created == 5


@pytest.mark.parametrize("text", ["id=10.0.0.1", "id=::1", "origin=http://a.example", "origin=https://u@a.example",
                                  "origin=https://a.example/x", "id=a b", "nope=1"])  # fmt: skip
def test_a_site_that_browsers_refuse_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        WebauthnOptions.model_validate(text)


def test_a_site_is_read_and_written() -> None:
    text = "rp=Our house,id=example.org,origin=https://pve.example.org:8006,allow-subdomains=0"
    assert str(WebauthnOptions.model_validate(text)) == text
