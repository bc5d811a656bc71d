"""Word from the kernel that the network changed: routes, links and packet filter rules (netlink(7) multicast groups).

Only that something changed is told, not what: the caller looks for itself.
"""

import asyncio
import socket

_NETLINK_ROUTE = 0
_NETLINK_NETFILTER = 12
# <linux/rtnetlink.h> RTMGRP_LINK, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE; <linux/netfilter/nfnetlink.h> NFNLGRP_NFTABLES
_ROUTE_GROUPS = 0x1 | 0x40 | 0x400
_NFTABLES_GROUPS = 1 << (7 - 1)


class NetEvents:
    """Sets `changed` at every change; close it when done. Belongs to the running event loop."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._sockets = [
            self._open(protocol, groups)
            for protocol, groups in ((_NETLINK_ROUTE, _ROUTE_GROUPS), (_NETLINK_NETFILTER, _NFTABLES_GROUPS))
        ]

    def _open(self, protocol: int, groups: int) -> socket.socket:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        sock = socket.socket(socket.AF_NETLINK, kind, protocol)
        sock.bind((0, groups))
        self._loop.add_reader(sock.fileno(), self._drain, sock)
        return sock

    def _drain(self, sock: socket.socket) -> None:
        self.changed.set()
        try:
            while sock.recv(1 << 16):
                pass
        except BlockingIOError:
            return
        except OSError:
            return  # ENOBUFS: the kernel dropped messages, and that something changed is known already

    def close(self) -> None:
        """Stop listening."""
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())
            sock.close()
