"""A machine's PCI devices as a folder, with a kernel that binds and unbinds their drivers."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class PciTree:
    """`sysfs`, `dev` and the files below them; `write` does what the kernel does when a file of sysfs is written."""

    top: Path
    writes: list[tuple[str, str]] = field(default_factory=list)
    natural: dict[str, str] = field(default_factory=dict)
    refuses: str | None = None

    @property
    def sysfs(self) -> Path:
        return self.top / "sys"

    @property
    def dev(self) -> Path:
        return self.top / "dev"

    @property
    def marks(self) -> Path:
        return self.top / "marks"

    def add(
        self, address: str, *, group: int | None = None, driver: str | None = None, device_class: int = 0x020000,
        vendor: int = 0x8086, device: int = 0x10D3,
    ) -> Path:  # fmt: skip
        home = self.sysfs / "devices/pci0000:00" / address
        home.mkdir(parents=True)
        for name, value in (("class", device_class), ("vendor", vendor), ("device", device),
                            ("subsystem_vendor", 0x8086), ("subsystem_device", 0xA01F)):  # fmt: skip
            (home / name).write_text(f"0x{value:04x}\n")
        (home / "driver_override").write_text("(null)\n")
        links = self.sysfs / "bus/pci/devices"
        links.mkdir(parents=True, exist_ok=True)
        (links / address).symlink_to(home)
        if group is not None:
            folder = self.sysfs / "kernel/iommu_groups" / str(group)
            folder.mkdir(parents=True, exist_ok=True)
            (home / "iommu_group").symlink_to(folder)
        if driver is not None:
            self.natural[address] = driver
            self._bind(address, driver)
        return home

    def driver(self, address: str) -> str | None:
        link = self.sysfs / "bus/pci/devices" / address / "driver"
        return link.readlink().name if link.is_symlink() else None

    def override(self, address: str) -> str:
        return (self.sysfs / "bus/pci/devices" / address / "driver_override").read_text().strip()

    def write(self, path: Path, text: str) -> None:
        resolved = path.parent.resolve() / path.name
        self.writes.append((str(path.relative_to(self.sysfs)), text))
        if self.refuses is not None and path.name == self.refuses:
            raise OSError(16, "Device or resource busy")
        if path.name == "driver_override":
            resolved.write_text(text)
        elif path.name == "unbind":
            assert self.driver(text) == resolved.parent.name, "unbound from a driver that does not have it"
            self._unbind(text)
        elif path.name == "drivers_probe" and self.driver(text) is None:
            driver = self.override(text) if self.override(text) not in ("", "(null)") else self.natural.get(text)
            if driver is not None:
                self._bind(text, driver)
        elif path.name == "create":
            self._create_mdev(resolved, text)
        elif path.name == "remove":
            folder = self.sysfs / "bus/mdev/devices" / Path(path).parent.name
            if not folder.exists():
                raise FileNotFoundError(2, "No such file or directory")
            (folder / "iommu_group").unlink()
            folder.rmdir()

    def _bind(self, address: str, driver: str) -> None:
        folder = self.sysfs / "bus/pci/drivers" / driver
        folder.mkdir(parents=True, exist_ok=True)
        home = self.sysfs / "bus/pci/devices" / address
        (home / "driver").symlink_to(folder)
        if driver == "vfio-pci":
            self._node((home / "iommu_group").readlink().name)

    def _unbind(self, address: str) -> None:
        home = self.sysfs / "bus/pci/devices" / address
        if self.driver(address) == "vfio-pci":
            group = (home / "iommu_group").readlink().name
            (home / "driver").unlink()
            others = [
                known for known in (self.sysfs / "bus/pci/devices").iterdir()
                if (known / "iommu_group").exists() and (known / "iommu_group").readlink().name == group
                and self.driver(known.name) == "vfio-pci"
            ]  # fmt: skip
            if not others:
                (self.dev / "vfio" / group).unlink()
        else:
            (home / "driver").unlink()

    def _node(self, group: str) -> None:
        (self.dev / "vfio").mkdir(parents=True, exist_ok=True)
        (self.dev / "vfio" / group).touch()

    def _create_mdev(self, path: Path, uuid: str) -> None:
        folder = self.sysfs / "bus/mdev/devices" / uuid
        folder.mkdir(parents=True)
        group = self.sysfs / "kernel/iommu_groups/77"
        group.mkdir(parents=True, exist_ok=True)
        (folder / "iommu_group").symlink_to(group)
        self._node("77")
