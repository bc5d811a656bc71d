"""`/cluster/options`: options of the whole datacenter. Those that cannot be changed yet are shown as they hold here."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bastide.api.routing import Branch, Call, NoParameters, NotBuilt
from bastide.base.errors import InvalidParameter, MethodNotImplemented
from bastide.model.factors import WebauthnOptions
from bastide.model.record import Multiline, Record
from bastide.model.types import ConfigKeys, split_list
from bastide.operations import datacenter

branch = Branch("/cluster/options")

_Text = Annotated[str | None, Field(max_length=1024), NotBuilt()]
_Long = Annotated[str | None, Field(max_length=65536), NotBuilt(), Multiline()]
_TAG = r"(?:[A-Za-z0-9_][A-Za-z0-9_+.-]*;)*[A-Za-z0-9_][A-Za-z0-9_+.-]*"
_KEYBOARDS = Literal["de", "de-ch", "da", "en-gb", "en-us", "es", "fi", "fr", "fr-be", "fr-ca", "fr-ch", "hu", "is",
                     "it", "ja", "lt", "mk", "nl", "no", "pl", "pt", "pt-br", "sv", "sl", "tr"]  # fmt: skip
_LANGUAGES = Literal["ar", "ca", "da", "de", "en", "es", "eu", "fa", "fr", "hr", "he", "it", "ja", "ka", "kr", "nb",
                     "nl", "nn", "pl", "pt_BR", "ru", "sl", "sv", "tr", "ukr", "zh_CN", "zh_TW"]  # fmt: skip


class Options(Record):
    """The options to change, and in `delete` those to forget."""

    webauthn: WebauthnOptions | None = None
    delete: ConfigKeys | None = None
    bwlimit: _Text = None
    consent_text: Annotated[_Long, Field(alias="consent-text")] = None
    console: Annotated[Literal["applet", "vv", "html5", "xtermjs"] | None, NotBuilt()] = None
    crs: _Text = None
    description: _Long = None
    email_from: Annotated[str | None, Field(max_length=254), NotBuilt()] = None
    fencing: Annotated[Literal["watchdog", "hardware", "both"] | None, NotBuilt()] = None
    ha: _Text = None
    http_proxy: Annotated[str | None, Field(pattern=r"^http://.*$", max_length=1024), NotBuilt()] = None
    keyboard: Annotated[_KEYBOARDS | None, NotBuilt()] = None
    language: Annotated[_LANGUAGES | None, NotBuilt()] = None
    mac_prefix: Annotated[str | None, Field(max_length=17), NotBuilt()] = None
    max_workers: Annotated[int | None, Field(ge=1), NotBuilt()] = None
    migration: _Text = None
    migration_unsecure: Annotated[bool | None, NotBuilt()] = None
    next_id: Annotated[_Text, Field(alias="next-id")] = None
    notify: _Text = None
    registered_tags: Annotated[
        str | None, Field(alias="registered-tags", pattern=f"^{_TAG}$", max_length=4096), NotBuilt()
    ] = None
    replication: _Text = None
    tag_style: Annotated[_Text, Field(alias="tag-style")] = None
    u2f: _Text = None
    user_tag_access: Annotated[_Text, Field(alias="user-tag-access")] = None


@branch.get("", NoParameters, check=("perm", "/", ("Sys.Audit",)), user="all")
async def read_options(call: Call, _p: NoParameters) -> dict[str, Any]:
    """Datacenter options."""
    webauthn = await datacenter.webauthn(call.rooms)
    kept = {} if webauthn is None else {"webauthn": str(webauthn)}
    return {"keyboard": "en-us", "mac_prefix": "BC:24:11", "console": "xtermjs", **kept}


@branch.put("", Options, check=("perm", "/", ("Sys.Modify",)))
async def change_options(call: Call, p: Options) -> None:
    """Change datacenter options: the site that security keys are for."""
    forgotten = split_list(p.delete or "")
    for key in forgotten:
        if not Options.knows(key) or key == "delete":
            raise InvalidParameter({"delete": f"'{key[:40]}' is no option"})
        if key != "webauthn":
            raise MethodNotImplemented(f"option '{key}' not implemented")
    if p.webauthn is not None and "webauthn" in forgotten:
        raise InvalidParameter({"delete": "'webauthn' cannot be set and deleted at once"})
    if p.webauthn is not None or "webauthn" in forgotten:
        await datacenter.set_webauthn(call.rooms, p.webauthn)
