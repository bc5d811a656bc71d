"""How root logs in: shadow(5) and authorized_keys (sshd(8))."""

import time

from bastide.base.errors import HostFailure
from bastide.host.rootdir import RootDir
from bastide.model.record import forbidden_character

_DAY = 86400


def set_credentials(root: RootDir, password_hash: str | None, ssh_keys: str | None) -> None:
    """Write root's password hash, and add keys (one a line) to those root has. Raises HostFailure."""
    if password_hash is not None:
        _set_password(root, password_hash)
    if ssh_keys is not None:
        _add_keys(root, ssh_keys)


def _set_password(root: RootDir, password_hash: str) -> None:
    if ":" in password_hash or forbidden_character(password_hash) is not None:
        raise HostFailure("a password hash cannot hold a colon or a control character")
    today = int(time.time()) // _DAY
    lines = (root.read_text("etc/shadow") or "").splitlines()
    for number, line in enumerate(lines):
        fields = line.split(":")
        if fields[0] == "root" and len(fields) == 9:
            fields[1], fields[2] = password_hash, str(today)
            lines[number] = ":".join(fields)
            break
    else:
        lines.insert(0, f"root:{password_hash}:{today}:0:99999:7:::")
    root.mkdir("etc")
    root.update("etc/shadow", "\n".join([*lines, ""]), mode=0o640)


def _add_keys(root: RootDir, ssh_keys: str) -> None:
    home = _home(root)
    root.mkdir(home, 0o700)
    if not root.is_dir(f"{home}/.ssh"):
        root.mkdir(f"{home}/.ssh", 0o700)
    file = f"{home}/.ssh/authorized_keys"
    present = (root.read_text(file) or "").splitlines()
    wanted = [line.strip() for line in ssh_keys.replace("\r", "\n").splitlines() if line.strip()]
    lines = [*present, *(line for line in dict.fromkeys(wanted) if line not in present)]
    # sshd refuses a file that others may write, so the mode is set whatever it was.
    root.write(file, "\n".join([*lines, ""]), mode=0o600)


def _home(root: RootDir) -> str:
    for line in (root.read_text("etc/passwd") or "").splitlines():
        fields = line.split(":")
        if fields[0] == "root" and len(fields) == 7 and fields[5].startswith("/") and fields[5].strip("/"):
            return fields[5]
    return "/root"
