/** The button that does what a finding's command does; a link where it only shows something. */
import { Anchor } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { ActionButton } from "../../components/ActionButton";
import { useConfig } from "../../hooks/guest";
import { type GuestRow, useGuest } from "../../hooks/resources";
import { bootDisk, mend, type Reviewed } from "../../logic/review";

interface Props {
  command: string;
  guest: Reviewed;
}

export function Mend({ command, guest }: Props) {
  const row = useGuest(guest.vmid);
  if (row === undefined) {
    return null;
  }
  const props = { command, guest, row };
  return guest.kind === "vm" && command.includes(" resize ") ? (
    <MendDisk {...props} />
  ) : (
    <Mending {...props} disk="rootfs" />
  );
}

/** Which disk a VM boots from stands in its options alone. */
function MendDisk(props: Props & { row: GuestRow }) {
  const config = useConfig(props.row);
  return <Mending {...props} disk={config.data && bootDisk(config.data)} />;
}

function Mending({ command, guest, row, disk }: Props & { row: GuestRow; disk: string | undefined }) {
  const action = mend(command, guest, row.node, disk);
  if (action !== undefined) {
    return <ActionButton action={action} size="compact-md" />;
  }
  return / (config|resize) /.test(command) ? (
    <Anchor component={Link} to={`/guests/${guest.vmid}/hardware`} size="sm">
      Show its hardware
    </Anchor>
  ) : null;
}
