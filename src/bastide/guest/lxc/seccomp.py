"""The system call filter of a container, as text for LXC (lxc.container.conf(5), seccomp). Pure.

A denylist of version 2: what is not named is allowed, and the kernel's own checks in the user namespace apply. Denied
is what an ordinary system never needs and what has been a way to the kernel: loading code, other kernels, file
handles, sockets of forgotten protocols, the keyring of the host, tracing the host.
"""

from bastide.model.container import Features

# Sockets of protocols that no guest of today speaks, and whose modules the kernel would load for whoever asks
# (<linux/socket.h>): amateur radio, IPX, AppleTalk, ATM, X.25, DECnet, RDS, IrDA, LLC, InfiniBand, TIPC, Bluetooth,
# IUCV, RxRPC, ISDN, Phonet, IEEE 802.15.4, CAIF, the kernel's crypto (AF_ALG), NFC, KCM, QIPCRTR, SMC, XDP, MCTP; and
# VSOCK, which knows no network namespaces: with it a container would speak to VMs and to services of the host.
_FAMILIES = (
    3, 4, 5, 6, 8, 9, 11, 12, 20, 21, 23, 26, 27, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45,
)  # fmt: skip
_ALWAYS = (
    "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "open_by_handle_at",
    "perf_event_open", "bpf", "userfaultfd", "lookup_dcookie", "acct", "swapon", "swapoff", "quotactl", "vhangup",
    "io_uring_setup", "io_uring_enter", "io_uring_register",
)  # fmt: skip
_KEYRING = ("keyctl", "add_key", "request_key")
_ENOSYS = 38
_EPERM = 1
_EAFNOSUPPORT = 97


def render_seccomp(features: Features | None, *, privileged: bool) -> str:
    """The filter's text. `keyctl` allows the keyring in an unprivileged container, as in Proxmox VE.

    A nested container manager on version 2 attaches its own device programs, which needs bpf(2).
    """
    nesting = features is not None and bool(features.nesting)
    denied = [name for name in _ALWAYS if not (nesting and name == "bpf")]
    lines = ["2", "denylist", "reject_force_umount", "[all]"]
    lines += [f"{name} errno {_ENOSYS if name.startswith('io_uring') else _EPERM}" for name in denied]
    lines += [f"socket errno {_EAFNOSUPPORT} [0,{family},SCMP_CMP_EQ]" for family in _FAMILIES]
    if not privileged and not (features is not None and features.keyctl):
        lines += [f"{name} errno {_ENOSYS}" for name in _KEYRING]
    return "\n".join([*lines, ""])
