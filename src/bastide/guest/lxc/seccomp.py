"""The system call filter of a container, as text for LXC (lxc.container.conf(5), seccomp). Pure.

A denylist of version 2: what is not named is allowed, and the kernel's own checks in the user namespace apply. Denied
is what an ordinary system never needs and what has been a way to the kernel: loading code, other kernels, file
handles, the kernel's crypto sockets, the keyring of the host, tracing the host.
"""

from bastide.model.container import Features

_AF_ALG = 38
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
    lines.append(f"socket errno {_EAFNOSUPPORT} [0,{_AF_ALG},SCMP_CMP_EQ]")
    if not privileged and not (features is not None and features.keyctl):
        lines += [f"{name} errno {_ENOSYS}" for name in _KEYRING]
    return "\n".join([*lines, ""])
