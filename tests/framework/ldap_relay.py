"""A relay before a directory, which changes what passes: to be Active Directory's front, or somebody in between.

with relay(directory.port, to_server=upn_to_dn) as port:
    ...
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from bastide.host import ber
from framework.slapd import PEOPLE

Change = Callable[[bytes], bytes]


def same(data: bytes) -> bytes:
    """Pass it as it is."""
    return data


def upn_to_dn(data: bytes) -> bytes:
    """A bind as `name@corp.test`, which Active Directory takes (MS-ADTS 5.1.1.1.1) and slapd does not, as one by DN."""
    (message,) = ber.Element(0, data).children()
    number, operation = message.children()[:2]
    if operation.tag != 0x60:
        return data
    version, name, password = operation.children()
    user, at, domain = name.text.rpartition("@")
    dn = f"uid={user},{PEOPLE}" if at and domain == "corp.test" else name.text
    bind = ber.encode(0x60, ber.integer(version.number), ber.octets(dn), ber.octets(password.body, password.tag))
    return ber.sequence(ber.integer(number.number), bind)


@contextlib.contextmanager
def relay(port: int, to_server: Change = same, to_client: Change = same) -> Iterator[int]:
    """A port of 127.0.0.1 that leads to another one; each piece that passes is changed on its way."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_serve, args=(listening, port, to_server, to_client), daemon=True).start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)


def _serve(listening: socket.socket, port: int, to_server: Change, to_client: Change) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listening.accept()
            server = socket.create_connection(("127.0.0.1", port))
            for source, target, change in ((client, server, to_server), (server, client, to_client)):
                threading.Thread(target=_pass, args=(source, target, change), daemon=True).start()


def _pass(source: socket.socket, target: socket.socket, change: Change) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(change(data))
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
    source.close()
