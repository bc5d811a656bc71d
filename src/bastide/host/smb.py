"""The shares that an SMB server offers. Source: smbclient(1), `--grepable`."""

import os
from dataclasses import dataclass

from bastide.base.errors import HostFailure
from bastide.host.run import run

_DEADLINE = 15.0


@dataclass(frozen=True, slots=True)
class Share:
    """A share and what its server says of it."""

    share: str
    description: str


def listing(server: str, credentials: str | None) -> list[str]:
    """The command line; `credentials` is a file, without one it asks as nobody."""
    login = ["--no-pass"] if credentials is None else ["--authentication-file", credentials]
    return ["smbclient", "--debuglevel", "1", "--grepable", *login, "--list", f"//{server}"]


def parse_shares(text: str) -> list[Share]:
    """Read lines such as `Disk|media|Films and music`; what is no disk, and hidden administration, is left out."""
    found = []
    for line in text.splitlines():
        kind, _, rest = line.partition("|")
        name, _, description = rest.partition("|")
        if kind == "Disk" and name and not name.endswith("$"):
            found.append(Share(name, description))
    return found


async def shares(
    server: str, username: str | None = None, password: str | None = None, domain: str | None = None
) -> list[Share]:
    """Ask a server. The password stands in a file that only root reads and that is gone in the end.

    Raises HostFailure with the server's reason, NotSupported, DeadlineExceeded.
    """
    if username is None:
        return await _ask(server, None)
    lines = {"username": username, "password": password or "", "domain": domain}
    text = "".join(f"{key}={value}\n" for key, value in lines.items() if value is not None)
    # A file without a name, which the child inherits: nothing of it is left whatever happens.
    descriptor = os.memfd_create("credentials", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(text.encode())
        return await _ask(server, descriptor)


async def _ask(server: str, credentials: int | None) -> list[Share]:
    place = None if credentials is None else f"/proc/self/fd/{credentials}"
    inherited = [] if credentials is None else [credentials]
    done = await run(listing(server, place), deadline=_DEADLINE, check=False, pass_fds=inherited)
    if done.code != 0:
        # It says what is wrong where its answer would be.
        said = (done.stderr + done.text).strip().splitlines()
        raise HostFailure(f"smbclient: {said[-1][:300] if said else 'no answer'}")
    return parse_shares(done.text)
