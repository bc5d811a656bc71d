/** What is asked of a service, in the architect's own keys. */
import type { Field, FieldGroup, FieldSpec } from "../../logic/schema";

const yesNo = [
  { value: "true", label: "yes" },
  { value: "false", label: "no" },
];

export const main: readonly Field[] = [
  { name: "name", label: "Name of the guest", help: "A host name" },
  { name: "exposure", label: "Who can reach it", placeholder: "lan" },
  { name: "cores", label: "Processors" },
  { name: "memory", label: "Memory", help: "With a unit: 512M, 2G" },
  { name: "disk", label: "Disk", help: "With a unit: 8G" },
  {
    name: "kind",
    label: "Kind",
    help: "Overrules the architect",
    options: [
      { value: "ct", label: "container" },
      { value: "vm", label: "VM" },
    ],
  },
];

const needs: readonly FieldSpec[] = [
  {
    name: "os",
    label: "Operating system",
    open: true,
    options: [
      "debian-12",
      "debian-13",
      "ubuntu-22.04",
      "ubuntu-24.04",
      "alpine-3.22",
      "fedora-42",
      "windows-server-2025",
      "windows-11",
      "freebsd-14",
      "opnsense",
      "appliance",
      "other",
    ],
  },
  { name: "engine", label: "Container engine inside" },
  {
    name: "devices",
    label: "Devices",
    many: true,
    open: true,
    help: "TYPE, TYPE:MODE or TYPE:MODE:WHAT; mode is whole or shared",
    options: ["gpu:shared", "gpu:whole", "tun", "fuse", "kvm", "sound", "usb:node", "pci:whole:hba", "disk:whole"],
  },
  {
    name: "kernel",
    label: "Kernel",
    help: "Any of it means a VM",
    options: [
      { value: "own", label: "one of its own" },
      { value: "tracing", label: "tracing: eBPF, perf" },
    ],
  },
  { name: "nfs", label: "NFS by itself" },
  { name: "nested_virtualization", label: "Runs VMs inside", options: yesNo },
  { name: "appliance", label: "Exists only as a disk image or installer", options: yesNo },
];

const use: readonly FieldSpec[] = [
  { name: "tenants", label: "Those who use this host's guests" },
  { name: "isolation", label: "Isolation", help: "absolute: nothing may get out of it" },
  { name: "untrusted_code", label: "Runs code of strangers", options: yesNo },
  { name: "live_migration", label: "Moves to another host while it runs", options: yesNo },
  { name: "ephemeral", label: "Is made and thrown away", options: yesNo },
  { name: "priority", label: "What counts most" },
  { name: "instances", label: "How many of it there are" },
];

const launch = (storages: readonly string[]): readonly FieldSpec[] => [
  { name: "storage", label: "Storage", help: "Where its volumes go", options: storages },
  { name: "tags", label: "Tags" },
  { name: "ssh_keys", label: "Public SSH keys", lines: 2, help: "One a line" },
  { name: "onboot", label: "Starts with the host", options: yesNo },
  { name: "keep", label: "Keep the guest when its service cannot be installed" },
];

/** The further fields; `storages` are those that take guests. */
export function groups(storages: readonly string[]): readonly FieldGroup[] {
  return [
    { title: "What it needs", fields: needs },
    { title: "How it is used", fields: use },
    { title: "How it is launched", fields: launch(storages) },
  ];
}
