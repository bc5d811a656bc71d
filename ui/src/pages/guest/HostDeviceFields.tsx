/** A USB or PCI device of the host's, chosen among those that are there. */
import { PropertyFields } from "../../components/properties/PropertyFields";
import { type PciRow, type UsbRow, usePciDevices, useUsbDevices } from "../../hooks/hostDevices";
import type { Choice, FieldSpec } from "../../logic/schema";
import type { OptionInput } from "./OptionForm";

function usbChoice(row: UsbRow): Choice {
  const id = `${row.vendid}:${row.prodid}`;
  const names = [row.manufacturer, row.product].filter((part) => part !== undefined);
  return { value: id, label: [id, ...names].join(" ") };
}

function pciChoice(row: PciRow): Choice {
  const names = [row.vendor_name, row.device_name].filter((part) => part !== undefined);
  const group = row.iommugroup < 0 ? "no IOMMU group" : `IOMMU group ${row.iommugroup}`;
  return { value: row.id, label: [row.id, ...names, `(${group})`].join(" ") };
}

type Props = OptionInput & { node: string; name: string; stem: "usb" | "hostpci" };

export function HostDeviceFields({ node, name, stem, ...input }: Props) {
  const usb = useUsbDevices(node, stem === "usb");
  const pci = usePciDevices(node, stem === "hostpci");
  const asked: FieldSpec[] =
    stem === "usb"
      ? [
          { name: "host", label: "Device", options: (usb.data ?? []).map(usbChoice), help: told(usb) },
          { name: "usb3", label: "As USB 3" },
        ]
      : [
          { name: "host", label: "Device", options: (pci.data ?? []).map(pciChoice), help: told(pci) },
          { name: "pcie", label: "As PCI Express", help: "Needs the machine q35." },
          { name: "rombar", label: "With its ROM", on: true },
          { name: "x-vga", label: "As the first display" },
        ];
  return <PropertyFields field={{ name, label: name }} parts={asked} columns={1} {...input} />;
}

function told({ data, error }: { data: readonly unknown[] | undefined; error: Error | null }): string {
  if (error !== null) {
    return `The devices of the host cannot be listed: ${error.message}`;
  }
  return data?.length === 0 ? "This host shows no such device." : "It leaves the host while the guest has it.";
}
