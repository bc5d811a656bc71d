/** The form that was asked for: to add, change, resize, move or attach a volume or device. */
import { Loader } from "@mantine/core";
import { FocusedModal } from "../../components/FocusedModal";
import { useDaemon } from "../../hooks/creating";
import { useConfig } from "../../hooks/guest";
import { setDevice } from "../../logic/deviceActions";
import { deviceLabel, type NewDevice } from "../../logic/devices";
import { nameOf } from "../../logic/guestActions";
import { freeIndex } from "../../logic/guestConfig";
import { withParts } from "../../logic/propertyString";
import { newVolumeFault } from "../../logic/volumes";
import { AttachVolume } from "./AttachVolume";
import { DeviceInputs } from "./DeviceInputs";
import { CdromForm, CloudInitDriveForm, FirmwareForm } from "./DriveForms";
import type { Dialog, DialogProps } from "./dialogs";
import { GiveVolume, MoveVolume } from "./MoveVolume";
import { NewDisk } from "./NewDisk";
import { OptionForm } from "./OptionForm";
import { ResizeVolume } from "./ResizeVolume";

function titleOf(dialog: Dialog): string {
  switch (dialog.what) {
    case "disk":
      return "Add a disk";
    case "cloudinit":
      return "Add a cloud-init drive";
    case "cdrom":
      return dialog.key === undefined ? "Add a CD-ROM drive" : `Medium in ${dialog.key}`;
    case "firmware":
      return `Add ${deviceLabel(dialog.key, "firmware")}`;
    case "add":
      return `Add: ${dialog.device.label}`;
    case "attach":
      return `Attach ${dialog.device.key}`;
    case "edit":
      return `Edit ${dialog.key}`;
    case "resize":
      return `Resize ${dialog.key}`;
    case "move":
      return `Move ${dialog.key}`;
    case "give":
      return `Give ${dialog.key} to another guest`;
  }
}

export function DeviceDialog({ dialog, ...props }: Omit<DialogProps, "digest"> & { dialog: Dialog }) {
  const digest = useConfig(props.guest).data?.digest;
  const given = { ...props, digest: digest === undefined ? undefined : String(digest) };
  return (
    <FocusedModal opened onClose={props.onClose} title={`${titleOf(dialog)} (${nameOf(props.guest)})`} size="lg">
      <Content dialog={dialog} {...given} />
    </FocusedModal>
  );
}

function Content({ dialog, ...props }: DialogProps & { dialog: Dialog }) {
  switch (dialog.what) {
    case "disk":
      return <NewDisk {...props} />;
    case "cloudinit":
      return <CloudInitDriveForm {...props} />;
    case "cdrom":
      return <CdromForm {...props} name={dialog.key} text={dialog.text ?? ""} />;
    case "firmware":
      return <FirmwareForm {...props} name={dialog.key} />;
    case "add":
      return <AddDevice {...props} device={dialog.device} />;
    case "attach":
      return <AttachVolume {...props} device={dialog.device} />;
    case "edit":
      return <OneDevice {...props} name={dialog.key} initial={dialog.text} />;
    case "resize":
      return <ResizeVolume {...props} name={dialog.key} text={dialog.text} />;
    case "move":
      return <MoveVolume {...props} name={dialog.key} />;
    case "give":
      return <GiveVolume {...props} name={dialog.key} />;
  }
}

function AddDevice({ device, ...props }: DialogProps & { device: NewDevice }) {
  const daemon = useDaemon();
  const index = freeIndex(
    props.rows.map((row) => row.key),
    device.stem,
    device.limit,
  );
  const name = device.key ?? `${device.stem}${index ?? 0}`;
  const bridge = daemon.data?.bridge ?? "";
  const card = props.guest.type === "lxc" ? `name=eth${index ?? 0},ip=dhcp` : device.initial;
  const first = device.stem === "net" ? withParts(card, { bridge }, "model") : device.initial;
  if (daemon.isPending) {
    return <Loader aria-label="Loading" />;
  }
  return <OneDevice {...props} name={name} initial={first} fresh={device.stem === "mp"} />;
}

function OneDevice({
  guest,
  digest,
  onClose,
  name,
  initial,
  fresh = false,
}: DialogProps & { name: string; initial: string; fresh?: boolean }) {
  return (
    <OptionForm
      kind={guest.type}
      name={name}
      initial={initial}
      action={(value) => setDevice(guest, name, value, digest)}
      {...(fresh && { fault: (value: string) => newVolumeFault(value.split(",")[0] ?? "") })}
      onClose={onClose}
    >
      {(input) => <DeviceInputs guest={guest} name={name} input={input} />}
    </OptionForm>
  );
}
