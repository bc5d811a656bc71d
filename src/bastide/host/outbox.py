"""Telling somebody outside what has happened: by the host's own mail system, or an HTTPS server.

Sources: sendmail(8), RFC 5322.
"""

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from bastide.base.errors import DeadlineExceeded, HostFailure, NotSupported, RunError
from bastide.host.run import PATH, run

_DEADLINE = 30.0


async def send_mail(to: Sequence[str], subject: str, text: str, sender: str = "root") -> None:
    """Hand a mail to sendmail(8). Raises NotSupported without one, HostFailure with its words."""
    program = shutil.which("sendmail", path=PATH)
    if program is None:
        raise NotSupported("this host has no mail system (no sendmail): apt-get install postfix, or use a webhook")
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, ", ".join(to), " ".join(subject.split())
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    try:
        await run([program, "-i", "-f", sender, "--", *to], input=message.as_bytes(), deadline=_DEADLINE)
    except RunError as error:
        raise HostFailure(f"the mail system refused: {error.stderr.strip()[-300:] or f'code {error.code}'}") from None


async def post_json(url: str, content: Mapping[str, Any]) -> None:
    """Send JSON to an HTTPS server. Errors name its host and nothing more: a path may be a secret.

    Redirects are not followed. Raises HostFailure, DeadlineExceeded.
    """
    # The library takes a fifth of a second to import, and the daemon may never need it.
    import httpx  # noqa: PLC0415

    host = urlsplit(url).hostname or ""
    try:
        async with (
            asyncio.timeout(_DEADLINE),
            httpx.AsyncClient(trust_env=False, timeout=_DEADLINE) as client,
            client.stream("POST", url, json=dict(content), follow_redirects=False) as answer,
        ):
            status = answer.status_code  # its body is nobody's business, and may have no end
    except (TimeoutError, httpx.TimeoutException):
        raise DeadlineExceeded(f"'{host}' did not answer within {_DEADLINE:g} seconds") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise HostFailure(f"'{host}' cannot be reached: {type(error).__name__}") from None
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        raise HostFailure(f"'{host}' answered HTTP {status}")
