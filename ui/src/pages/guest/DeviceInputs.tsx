/** The inputs that fit a device: a disk's, an interface's, or its parts by the schema. */

import { FieldInput } from "../../components/form/FieldInput";
import { DiskForm } from "../../components/properties/DiskForm";
import { MountPointForm } from "../../components/properties/MountPointForm";
import { NetForm } from "../../components/properties/NetForm";
import { PropertyFields } from "../../components/properties/PropertyFields";
import type { GuestRow } from "../../hooks/resources";
import { DEVICE_PARTS } from "../../logic/devices";
import { isDriveKey } from "../../logic/guestConfig";
import { stemOf } from "../../logic/propertyString";
import { HostDeviceFields } from "./HostDeviceFields";
import type { OptionInput } from "./OptionForm";

export function DeviceInputs({ guest, name, input }: { guest: GuestRow; name: string; input: OptionInput }) {
  const stem = stemOf(name);
  const place = { node: guest.node, name, ...input };
  if (stem === "net") {
    return <NetForm kind={guest.type} {...place} />;
  }
  if (guest.type === "lxc" && (stem === "mp" || stem === "rootfs")) {
    return <MountPointForm {...place} />;
  }
  if (isDriveKey(name)) {
    return <DiskForm {...place} />;
  }
  if (stem === "usb" || stem === "hostpci") {
    return <HostDeviceFields {...place} stem={stem} node={guest.node} />;
  }
  const parts = DEVICE_PARTS[stem];
  if (parts !== undefined) {
    return <PropertyFields field={{ name, label: name }} parts={parts} columns={2} {...input} />;
  }
  const help =
    stem === "serial" ? "socket, for a console here; or a device of the host's such as /dev/ttyS0" : undefined;
  return <FieldInput field={{ name, label: name, ...(help !== undefined && { help }) }} {...input} />;
}
