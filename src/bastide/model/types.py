"""Checked text types that several records share. Each refuses what it does not know with a sentence."""

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, Field

from bastide.base import units
from bastide.base.errors import InvalidParameter
from bastide.base.ids import VMID_MAX, VMID_MIN, VolumeId, is_storage_id

_DNS_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+.-]*", re.ASCII)
_LIST_SEPARATOR = re.compile(r"[,;\s\0]+")


def split_list(text: str) -> list[str]:
    """The entries of a list written with commas, semicolons, spaces or NULs, mixed."""
    return [part for part in _LIST_SEPARATOR.split(text) if part]


def is_dns_name(text: str) -> bool:
    """Whether the text is a host name by RFC 1123: labels of letters, digits and inner hyphens."""
    return len(text) <= 255 and all(_DNS_LABEL.fullmatch(label) for label in text.split("."))


def _dns_name(text: str) -> str:
    if not is_dns_name(text):
        raise ValueError(f"'{text[:80]}' is not a DNS name: use letters, digits and hyphens, at most 63 between dots")
    return text


def _dns_names(text: str) -> str:
    return " ".join(_dns_name(part) for part in split_list(text))


def public_keys(text: str) -> str:
    """The text when its lines are public SSH keys or comments, as `authorized_keys` has them."""
    for line in text.splitlines():
        words = line.split()
        if words and not line.startswith("#") and len(words) < 2:
            raise ValueError(f"'{line[:40]}' is not a public SSH key")
    return text


def _addresses(text: str) -> str:
    names = split_list(text)
    for name in names:
        if name != "host":
            _address(name)
    return " ".join(names)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"'{text[:80]}' is not an IP address") from None


def _ipv4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError(f"'{text[:80]}' is not an IPv4 address") from None


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text.partition("%")[0]))
    except ValueError:
        raise ValueError(f"'{text[:80]}' is not an IPv6 address") from None


def _ipv4_setting(text: str) -> str:
    if text in ("dhcp", "manual"):
        return text
    try:
        if "/" not in text:
            raise ValueError
        return str(ipaddress.IPv4Interface(text))
    except ValueError:
        raise ValueError(
            f"'{text[:80]}' is not dhcp, manual or an IPv4 address with its prefix (10.0.0.5/24)"
        ) from None


def _ipv6_setting(text: str) -> str:
    if text in ("auto", "dhcp", "manual"):
        return text
    try:
        if "/" not in text:
            raise ValueError
        return str(ipaddress.IPv6Interface(text))
    except ValueError:
        raise ValueError(f"'{text[:80]}' is not auto, dhcp, manual or an IPv6 address with its prefix") from None


def _hwaddr(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", text, re.ASCII) or int(text[:2], 16) & 1:
        raise ValueError(f"'{text[:40]}' is not a unicast MAC address")
    return text.upper()


def _size(text: str) -> str:
    return units.format_size(units.parse_size(text))


def _volume_id(text: str) -> str:
    try:
        return str(VolumeId.parse(text))
    except InvalidParameter as error:
        raise ValueError(error.errors["volume"]) from None


def _archive(text: str) -> str:
    return text if text.startswith("/") and text.isprintable() else _volume_id(text)


def _tags(text: str) -> str:
    tags = split_list(text)
    for tag in tags:
        if _TAG.fullmatch(tag) is None:
            raise ValueError(f"invalid tag '{tag[:60]}': use letters, digits, _, +, . and -")
    return ";".join(dict.fromkeys(tag.lower() for tag in tags))


def _storage_id(text: str) -> str:
    if not is_storage_id(text):
        raise ValueError(
            f"'{text[:110]}' is not a storage ID: 2 to 100 characters, a letter, then letters, digits, ., _, -"
        )
    return text


def _file_name(text: str) -> str:
    if text in (".", "..") or re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+@~()-]{0,254}", text, re.ASCII) is None:
        raise ValueError(f"'{text[:80]}' is not a plain file name")
    return text


Vmid = Annotated[int, Field(ge=VMID_MIN, le=VMID_MAX)]
NodeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$")]
StorageId = Annotated[str, AfterValidator(_storage_id)]
VolumeIdText = Annotated[str, AfterValidator(_volume_id)]
ArchiveText = Annotated[str, Field(max_length=255), AfterValidator(_archive)]
"""What a guest is made of: a volume id, or the absolute path of a backup."""
DnsName = Annotated[str, Field(max_length=255), AfterValidator(_dns_name)]
DnsNames = Annotated[str, AfterValidator(_dns_names)]
PublicKeys = Annotated[str, AfterValidator(public_keys)]
Addresses = Annotated[str, AfterValidator(_addresses)]
Ipv4 = Annotated[str, AfterValidator(_ipv4)]
Ipv6 = Annotated[str, AfterValidator(_ipv6)]
Ipv4Setting = Annotated[str, AfterValidator(_ipv4_setting)]
Ipv6Setting = Annotated[str, AfterValidator(_ipv6_setting)]
HardwareAddress = Annotated[str, AfterValidator(_hwaddr)]
Size = Annotated[str, AfterValidator(_size)]
Tags = Annotated[str, AfterValidator(_tags)]
FileName = Annotated[str, AfterValidator(_file_name)]
InterfaceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$")]
PoolId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+){0,2}$", max_length=128)]
ConfigKeys = Annotated[str, Field(pattern=r"^[A-Za-z0-9_,;\s\x00-]*$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$", max_length=40)]
UserId = Annotated[str, Field(pattern=r"^[^\s:/!]{1,60}@[A-Za-z][A-Za-z0-9._-]{1,31}$", max_length=64)]
TokenName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,63}$")]
