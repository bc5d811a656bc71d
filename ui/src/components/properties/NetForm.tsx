/** A network interface: `net0` of a CT or of a VM. */
import { useBridges } from "../../hooks/creating";
import { type GuestKind, partsOf, textOf } from "../../logic/propertyString";
import type { Choice, FieldSchema, FieldSpec } from "../../logic/schema";
import { PropertyFields } from "./PropertyFields";

export interface NetFormProps {
  kind: GuestKind;
  node: string | undefined;
  /** The option: `net0`, `net1` ... */
  name: string;
  schema: FieldSchema | undefined;
  value: string;
  onChange: (value: string) => void;
  error?: string | undefined;
  /** Leave out what is rarely asked for. */
  brief?: boolean;
}

const VLAN: FieldSpec = { name: "tag", label: "VLAN tag", help: "1 to 4094; none is untagged" };
const LIMIT: FieldSpec = { name: "rate", label: "Rate limit", help: "MB/s; none is unlimited" };

function ofContainer(bridges: Choice[], brief: boolean): FieldSpec[] {
  const usual: FieldSpec[] = [
    { name: "name", label: "Name in the CT", placeholder: "eth0" },
    { name: "bridge", label: "Bridge", options: bridges, required: true },
    { name: "ip", label: "IPv4", help: "dhcp, manual or ADDRESS/PREFIX", options: ["dhcp", "manual"], open: true },
    { name: "gw", label: "IPv4 gateway" },
    {
      name: "ip6",
      label: "IPv6",
      help: "auto, dhcp, manual or ADDRESS/PREFIX",
      options: ["auto", "dhcp", "manual"],
      open: true,
    },
    { name: "gw6", label: "IPv6 gateway" },
    VLAN,
  ];
  const rare: FieldSpec[] = [
    { name: "hwaddr", label: "MAC address", placeholder: "drawn" },
    { name: "mtu", label: "MTU" },
    LIMIT,
    { name: "link_down", label: "Link down" },
  ];
  return brief ? usual : [...usual, ...rare];
}

function ofMachine(bridges: Choice[], brief: boolean): FieldSpec[] {
  const usual: FieldSpec[] = [
    { name: "model", label: "Model", help: "virtio is fastest and needs a driver in the guest" },
    { name: "bridge", label: "Bridge", options: bridges, required: true },
    VLAN,
  ];
  const rare: FieldSpec[] = [
    { name: "macaddr", label: "MAC address", placeholder: "drawn" },
    { name: "mtu", label: "MTU" },
    { name: "queues", label: "Queues" },
    LIMIT,
    { name: "link_down", label: "Link down" },
  ];
  return brief ? usual : [...usual, ...rare];
}

export function NetForm({ kind, node, name, schema, brief = false, ...rest }: NetFormProps) {
  const bridges = (useBridges(node).data ?? []).map((row) => ({
    value: row.iface,
    label: row.cidr === undefined ? row.iface : `${row.iface} (${row.cidr})`,
  }));
  const parts = kind === "lxc" ? ofContainer(bridges, brief) : ofMachine(bridges, brief);
  return (
    <PropertyFields
      {...rest}
      field={{ name, label: name }}
      schema={schema}
      parts={parts}
      columns={2}
      codec={{ parse: (text) => partsOf(kind, name, text), print: (values) => textOf(kind, name, values) }}
    />
  );
}
