"""What must differ between two guests of one template: machine-id(5), ssh host keys, random seeds."""

import uuid

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bastide.host.rootdir import RootDir

_SEEDS = ("var/lib/systemd/random-seed", "var/lib/urandom/random-seed", "var/lib/seedrng/seed.credit")


def set_identity(root: RootDir) -> None:
    """Give the root a machine-id and ssh host keys of its own; what the template had is gone."""
    if root.is_dir("etc"):
        _machine_id(root)
    if root.is_dir("etc/ssh"):
        _host_keys(root)
    for seed in _SEEDS:
        root.unlink(seed)


def _machine_id(root: RootDir) -> None:
    text = f"{uuid.uuid4().hex}\n"
    if root.exists("etc/machine-id") or root.exists("usr/lib/systemd/systemd") or root.exists("lib/systemd/systemd"):
        root.write("etc/machine-id", text, mode=0o444)
    if root.is_dir("var/lib/dbus") and root.readlink("var/lib/dbus/machine-id") is None:
        root.write("var/lib/dbus/machine-id", text)


def _host_keys(root: RootDir) -> None:
    """Remove the template's keys and make new ones. Not RSA: it takes long, and no client in use needs it."""
    for name in root.listdir("etc/ssh"):
        if name.startswith("ssh_host_") and "_key" in name:
            root.unlink(f"etc/ssh/{name}")
    if not (root.is_file("usr/sbin/sshd") or root.is_file("usr/bin/sshd")):
        return
    for kind, key in (
        ("ed25519", ed25519.Ed25519PrivateKey.generate()),
        ("ecdsa", ec.generate_private_key(ec.SECP256R1())),
    ):
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        root.write(f"etc/ssh/ssh_host_{kind}_key", private, mode=0o600)
        root.write(f"etc/ssh/ssh_host_{kind}_key.pub", public + b"\n")
