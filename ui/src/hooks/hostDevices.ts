/** The USB and PCI devices of a node that could be given to guests. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";

export interface UsbRow {
  readonly vendid: string;
  readonly prodid: string;
  readonly product?: string;
  readonly manufacturer?: string;
  readonly class: number;
}

export interface PciRow {
  readonly id: string;
  readonly vendor_name?: string;
  readonly device_name?: string;
  readonly iommugroup: number;
}

const HUB = 9;

export function useUsbDevices(node: string, wanted: boolean) {
  return useQuery({
    queryKey: ["nodes", node, "usb"],
    queryFn: async () => {
      const params = { path: { node } };
      const rows = (await answer<unknown>(api.GET("/api2/json/nodes/{node}/hardware/usb", { params }))) as UsbRow[];
      return rows.filter((row) => row.class !== HUB);
    },
    enabled: wanted,
  });
}

export function usePciDevices(node: string, wanted: boolean) {
  return useQuery({
    queryKey: ["nodes", node, "pci"],
    queryFn: async () => {
      const params = { path: { node } };
      return (await answer<unknown>(api.GET("/api2/json/nodes/{node}/hardware/pci", { params }))) as PciRow[];
    },
    enabled: wanted,
  });
}
