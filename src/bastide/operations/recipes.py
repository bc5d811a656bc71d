"""What goes into the images that this host builds: packages, and what is done in their root file systems."""

import shlex
from dataclasses import replace

from bastide.host import apt
from bastide.host.boot_disk import CONSOLE
from bastide.host.mmdebstrap import Recipe

_BASE = (
    *("systemd-sysv", "systemd", "dbus", "libpam-systemd", "tzdata", "procps"),
    *("iproute2", "iputils-ping", "netbase", "ca-certificates", "openssh-server"),
    *("less", "nano", "vim-tiny"),
)
_CLOUD = ("cloud-init", "sudo")
_VM = (
    *("initramfs-tools", "zstd", "udev", "kmod", "e2fsprogs"),
    *("cloud-guest-utils", "netplan.io", "systemd-timesyncd", "qemu-guest-agent"),
)
# The distributions' full kernels: the small ones for clouds know neither SATA nor IDE nor e1000 nor vmgenid, nor
# devices that are passed through, and save 60 MiB of a compressed image.
_KERNEL = {
    "debian": ("linux-image-amd64", "grub-cloud-amd64"),
    "ubuntu": ("linux-image-virtual", "grub2-common", "grub-pc-bin", "grub-efi-amd64-signed", "shim-signed"),
}
_UNMERGED = ("bullseye",)
"""Releases whose /usr may still be apart."""

_RESOLVED_WITHIN = ("bullseye", "jammy")
"""Releases in which systemd-resolved is no package of its own."""

_LEAN = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
    "/usr/share/zoneinfo/right/*",
    "/usr/share/zoneinfo/posix/*",
)
_KEPT = ("/usr/share/doc/*/copyright",)
_HOST_KEYS = """\
[Unit]
Description=Make ssh host keys
Before=ssh.service
After=cloud-init.service cloud-init-network.service
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
"""

# An RSA key takes a slow machine many seconds to make, and no client of the last ten years asks for one.
_CLOUD_CONFIG = """\
datasource_list: [NoCloud, ConfigDrive, None]
apt: {preserve_sources_list: true}
ssh_genkeytypes: [ed25519, ecdsa]
"""
_NO_NETWORK = "network: {config: disabled}\n"

# The kernel's drivers for every kind of disk and keyboard that a VM may have here; the default would take all there
# are, five times as much, which a slow machine needs seconds to unpack.
_INITRD_HOOK = """\
#!/bin/sh
[ "$1" != prereqs ] || exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules ext4 crc32c_generic virtio_pci virtio_blk virtio_scsi virtio_net virtio_rng sd_mod sr_mod cdrom \
    ahci ata_piix ata_generic nvme sym53c8xx megaraid_sas vmw_pvscsi mptspi mptsas xen_blkfront hv_storvsc hv_vmbus \
    uhci_hcd ehci_pci xhci_pci usb_storage uas usbhid hid_generic i8042 atkbd
"""
_GRUB_DEFAULTS = f"""\
GRUB_TIMEOUT=0
GRUB_RECORDFAIL_TIMEOUT=0
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="{CONSOLE}"
GRUB_TERMINAL="console serial"
GRUB_SERIAL_COMMAND="serial --speed=115200"
GRUB_DISABLE_OS_PROBER=true
"""


def _write(path: str, text: str, mode: str = "644") -> str:
    place = f'"$1/{path}"'
    return f'mkdir -p "$(dirname {place})" && printf %s {shlex.quote(text)} > {place} && chmod {mode} {place}'


_HOOKS = (
    """chroot "$1" dpkg-query -W -f='${Package}\\t${Version}\\n' > "$BASTIDE_PACKAGES" """.strip(),
    _write("etc/systemd/system/ssh-host-keys.service", _HOST_KEYS),
    'chroot "$1" systemctl enable systemd-networkd.service ssh-host-keys.service',
    'chroot "$1" systemctl disable systemd-networkd-wait-online.service',
    'rm -f "$1"/etc/ssh/ssh_host_*_key "$1"/etc/ssh/ssh_host_*_key.pub',
    'rm -f "$1/etc/hostname" "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap" "$1/etc/apt/apt.conf.d/99mmdebstrap"',
    _write("etc/default/locale", "LANG=C.UTF-8\n"),
    'rm -rf "$1"/var/cache/apt/*.bin "$1"/var/log/apt/* "$1"/var/log/dpkg.log "$1"/var/log/bootstrap.log',
)
_CONTAINER_HOOKS = (
    # A container has no say in the kernel's modules; Debian 13's unit fails for it.
    'chroot "$1" systemctl mask systemd-modules-load.service',
    'rm -f "$1/etc/resolv.conf"',
)
_VM_EARLY_HOOKS = (
    _write("etc/initramfs-tools/conf.d/bastide", "MODULES=list\n"),
    _write("etc/initramfs-tools/hooks/bastide", _INITRD_HOOK, "755"),
    # What the initrd's file system check is for; the whole table is written when the file systems are made.
    _write("etc/fstab", "/dev/root / ext4 defaults 0 1\n"),
)
_VM_HOOKS = (
    _write("etc/default/grub.d/50-bastide.cfg", _GRUB_DEFAULTS),
    'mkdir -p "$1/boot/grub/i386-pc"',
    'cp "$1"/usr/lib/grub/i386-pc/*.mod "$1"/usr/lib/grub/i386-pc/*.lst "$1"/usr/lib/grub/i386-pc/boot.img '
    '"$1/boot/grub/i386-pc/"',
    'chroot "$1" grub-mkimage -O i386-pc -o /boot/grub/i386-pc/core.img -p "(,gpt1)/boot/grub" biosdisk part_gpt ext2',
    'chroot "$1" grub-editenv /boot/grub/grubenv create',
    'chroot "$1" cp -L /usr/lib/shim/shimx64.efi.signed /boot/efi/EFI/BOOT/BOOTX64.EFI',
    'chroot "$1" cp -L /usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed /boot/efi/EFI/BOOT/grubx64.efi',
    # MOK's manager has the suffix .signed in Debian and is signed without it in Ubuntu.
    'chroot "$1" sh -c \'for file in /usr/lib/shim/mmx64.efi /usr/lib/shim/mmx64.efi.signed; do '
    '[ ! -e "$file" ] || cp -L "$file" /boot/efi/EFI/BOOT/mmx64.efi; done\'',
    'ln -sf ../run/systemd/resolve/stub-resolv.conf "$1/etc/resolv.conf"',
    'chroot "$1" systemctl enable systemd-resolved.service',
    'rm -f "$1/etc/hosts" "$1/var/lib/systemd/random-seed" && : > "$1/etc/machine-id"',
    _write("etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"),
)


def _base(codename: str) -> tuple[str, ...]:
    return _BASE if codename in _UNMERGED else (*_BASE, "usr-is-merged")


def container_recipe(codename: str, sources: list[apt.AptSource], architecture: str, *, cloud: bool) -> Recipe:
    """What mmdebstrap has to make of a container's template; with cloud-init in it when it is for `cloud` use."""
    packages = _base(codename)
    hooks: tuple[str, ...] = (*_HOOKS, *_CONTAINER_HOOKS)
    if cloud:
        packages += _CLOUD
        hooks += (_write("etc/cloud/cloud.cfg.d/90_bastide.cfg", _CLOUD_CONFIG + _NO_NETWORK),)
    return _recipe(codename, sources, architecture, packages, hooks)


def vm_recipe(distribution: str, codename: str, sources: list[apt.AptSource], architecture: str) -> Recipe:
    """What mmdebstrap has to make of a VM's root file system, as `host.vm_image.build` wants it."""
    packages = (*_base(codename), *_CLOUD, *_VM, *_KERNEL[distribution])
    if codename not in _RESOLVED_WITHIN:
        packages = (*packages, "systemd-resolved")
    # The signed GRUB looks for its menu in the folder of its distribution, whatever folder it was started from.
    folders = (
        f'mkdir -p "$1/boot/efi/EFI/BOOT" "$1/boot/efi/EFI/{distribution}"',
        # grub-cloud-amd64 keeps the boot sectors and the ESP up to date where this file is.
        *(('touch "$1/etc/grub.d/enable_cloud"',) if distribution == "debian" else ()),
        _write("etc/cloud/cloud.cfg.d/90_bastide.cfg", _CLOUD_CONFIG),
    )
    recipe = _recipe(codename, sources, architecture, packages, (*_HOOKS, *folders, *_VM_HOOKS))
    return replace(recipe, early_hooks=_VM_EARLY_HOOKS)


def _recipe(
    codename: str,
    sources: list[apt.AptSource],
    architecture: str,
    packages: tuple[str, ...],
    hooks: tuple[str, ...],
) -> Recipe:
    return Recipe(
        codename=codename,
        architecture=architecture,
        sources=sources,
        packages=packages,
        excludes=_LEAN,
        includes=_KEPT,
        hooks=hooks,
    )
