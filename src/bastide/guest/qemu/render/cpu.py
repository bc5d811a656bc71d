"""The VM's processors: the model that the guest sees, their topology, and those that are plugged while it runs.

Sources: QEMU's manual (-cpu, -smp) and docs/system/i386/hyperv; the x86-64 psABI for the levels x86-64-v2 to -v4;
Proxmox VE's qm.conf(5) for what an absent `cpu` means.
"""

from collections.abc import Mapping
from types import MappingProxyType

from bastide.guest.qemu.render.base import Properties, check_id, invalid, option_text, unsupported, uses_kvm
from bastide.guest.vm_protocol import VmPlan
from bastide.host.qemu_facts import HostFacts
from bastide.model.vm import VmConfig

_V2 = ("popcnt", "pni", "sse4.1", "sse4.2", "ssse3")
_V3 = (*_V2, "aes", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
LEVELS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"x86-64-v2": _V2, "x86-64-v2-AES": (*_V2, "aes"), "x86-64-v3": _V3, "x86-64-v4": _V4}
)
"""Levels of the psABI (`-AES`: the next one's encryption beside it), as features on top of QEMU's `qemu64`."""

_MOST = 255
_HYPERV_VENDOR = "Bastide"  # what a guest's graphics driver sees, which refuses hypervisors that it knows
_HYPERV = (
    "hv-relaxed", "hv-vapic", "hv-time", "hv-vpindex", "hv-runtime", "hv-reset", "hv-synic", "hv-stimer",
)  # fmt: skip
_HYPERV_NEW = ("hv-frequencies", "hv-tlbflush", "hv-ipi")
_OLD_WINDOWS = frozenset({"wxp", "w2k", "w2k3"})
_NEW_WINDOWS = frozenset({"win8", "win10", "win11"})


def cpu_argument(plan: VmPlan, host: HostFacts) -> str:
    """The value of -cpu. Raises InvalidParameter or NotSupported, naming `cpu`."""
    kvm = uses_kvm(plan, host)
    model = cpu_model(plan, host)
    asked = _asked_flags(plan, host)
    features: dict[str, str | int | bool] = dict.fromkeys(_level_flags(plan.config), True)
    if _level_flags(plan.config):
        features["svm"] = False
    if model == "kvm64":
        features |= {"lahf-lm": True, "sep": True}
    if kvm:
        features |= _kvm_features(plan)
    features |= {name: on for name, on in asked.items() if kvm or not name.startswith(("hv-", "kvm-"))}
    features |= _address_bits(plan.config, host)
    if kvm or _level_flags(plan.config):
        _check_available(plan, host, model, asked)
        features["enforce"] = True
    return option_text(features, model)


def cpu_model(plan: VmPlan, host: HostFacts) -> str:
    """QEMU's name of the model. `host` is all that emulation can do (`max`) where there is no KVM."""
    kvm = uses_kvm(plan, host)
    cpu = plan.config.cpu
    name = cpu.cputype if cpu is not None and cpu.cputype is not None else None
    if cpu is not None and cpu.reported_model is not None:
        raise unsupported("cpu", "reported-model is only for custom CPU models, of which there are none here")
    if name is None:
        return "kvm64" if kvm else "qemu64"
    if name.startswith("custom-"):
        raise unsupported("cpu", "there are no custom CPU models here")
    if name in LEVELS:
        if name == "x86-64-v4" and not kvm:
            raise unsupported("cpu", "x86-64-v4 cannot be emulated, and this VM does not run by KVM")
        return "qemu64"
    if name == "host":
        return "host" if kvm else "max"
    known = {model.name for model in host.emulator.cpu_models} | {"max", "kvm64", "qemu64"}
    if name not in known:
        raise invalid("cpu", f"this host's QEMU has no CPU model {name[:64]}")
    return check_id(name, "cpu")


def smp_argument(plan: VmPlan) -> str:
    """The value of -smp: where CPUs may be plugged, one is fixed and the others are devices."""
    config = plan.config
    most = config.most_vcpus
    if most > _MOST:
        raise invalid("cores", f"{most} virtual CPUs are more than the {_MOST} that a VM can have")
    values: dict[str, str | int | bool] = {
        "cpus": 1 if _plugs(config) else config.vcpu_count,
        "sockets": config.socket_count,
        "cores": config.core_count,
        "threads": 1,
        "maxcpus": most,
    }
    return option_text(values)


def cpu_devices(plan: VmPlan, host: HostFacts) -> list[Properties]:
    """The CPUs beyond the first that are there from the start, as devices, so that they can be unplugged."""
    if not _plugs(plan.config):
        return []
    return [cpu_device(plan, host, number) for number in range(1, plan.config.vcpu_count)]


def cpu_device(plan: VmPlan, host: HostFacts, number: int) -> Properties:
    """The virtual CPU `number`, counted from 0, for device_add; its id is `cpu<number>`."""
    cores = plan.config.core_count
    return {
        "driver": f"{cpu_model(plan, host)}-x86_64-cpu",
        "id": f"cpu{number}",
        "socket-id": number // cores,
        "core-id": number % cores,
        "thread-id": 0,
    }


def _plugs(config: VmConfig) -> bool:
    return "cpu" in config.hotplugged and config.most_vcpus > 1


def _level_flags(config: VmConfig) -> tuple[str, ...]:
    return LEVELS.get(config.cpu.cputype or "", ()) if config.cpu is not None else ()


def _asked_flags(plan: VmPlan, host: HostFacts) -> dict[str, bool]:
    cpu = plan.config.cpu
    if cpu is None or not cpu.flags:
        return {}
    asked: dict[str, bool] = {}
    for flag in cpu.flags.split(";"):
        name = check_id(flag[1:], "cpu").replace("_", "-").replace("sse4-", "sse4.")
        known = host.emulator.flags
        if known and not name.startswith(("hv-", "kvm-")) and name not in known:
            raise invalid("cpu", f"this host's QEMU has no CPU flag {name[:40]}")
        asked[name] = flag[0] == "+"
    return asked


def _kvm_features(plan: VmPlan) -> dict[str, str | int | bool]:
    config = plan.config
    cpu = config.cpu
    passes_screen = any(device.x_vga for device in config.hostpci.values())
    hidden = (cpu is not None and bool(cpu.hidden)) or passes_screen
    features: dict[str, str | int | bool] = {}
    if config.ostype in (None, "other", "l24", "l26") and not hidden:
        features |= {"kvm-pv-eoi": True, "kvm-pv-unhalt": True}
    if config.is_windows and config.ostype not in _OLD_WINDOWS:
        features |= dict.fromkeys(_HYPERV, True)
        features["hv-spinlocks"] = "0x1fff"
        if config.ostype in _NEW_WINDOWS:
            features |= dict.fromkeys(_HYPERV_NEW, True)
    if config.ostype == "solaris":
        features["x2apic"] = False
    vendor = cpu.hv_vendor_id if cpu is not None else None
    if vendor is not None or (passes_screen and config.is_windows):
        features["hv-vendor-id"] = _vendor(vendor or _HYPERV_VENDOR)
    if hidden:
        features["kvm"] = False
    return features


def _vendor(text: str) -> str:
    if not text.isascii() or not text.isalnum():
        raise invalid("cpu", f"hv-vendor-id: '{text[:20]}' is not made of letters and digits")
    return text


def _address_bits(config: VmConfig, host: HostFacts) -> dict[str, str | int | bool]:
    cpu = config.cpu
    if cpu is None:
        return {}
    if cpu.guest_phys_bits is not None and host.emulator.version < (9, 0, 0):
        raise unsupported("cpu", "guest-phys-bits needs QEMU 9.0")
    bits: dict[str, str | int | bool] = {}
    if cpu.phys_bits == "host":
        bits["host-phys-bits"] = True
    elif cpu.phys_bits is not None:
        bits["phys-bits"] = int(cpu.phys_bits)
    return {**bits, "guest-phys-bits": cpu.guest_phys_bits} if cpu.guest_phys_bits is not None else bits


def _check_available(plan: VmPlan, host: HostFacts, model: str, asked: Mapping[str, bool]) -> None:
    """Say what this host's processors lack; QEMU's own message at the start names CPUID bits."""
    lacking = next((known.unavailable for known in host.emulator.cpu_models if known.name == model), ())
    off = {name for name, on in asked.items() if not on} | {"svm"}
    missing = [name for name in lacking if name not in off]
    if missing and uses_kvm(plan, host):
        raise unsupported("cpu", f"this host's processors lack {', '.join(missing[:8])}, which {model} has")
