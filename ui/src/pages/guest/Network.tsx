/** A guest's network: what it is given, and what it sees of it. */
import { Button, Group, Stack, Text, Title } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useState } from "react";
import { Asked } from "../../components/Asked";
import { Needing } from "../../components/Denied";
import { type PendingRow, usePending } from "../../hooks/guest";
import type { GuestRow } from "../../hooks/resources";
import { devices, newDevices } from "../../logic/devices";
import { placeOf } from "../../logic/guestActions";
import { waiting } from "../../logic/guestConfig";
import { DeviceDialog } from "./DeviceDialog";
import { DeviceMenu } from "./DeviceMenu";
import type { Dialog } from "./dialogs";
import { OptionTable } from "./OptionTable";
import { SeenInterfaces } from "./SeenInterfaces";

export function Network({ guest }: { guest: GuestRow }) {
  return (
    <Stack gap="lg">
      <Asked query={usePending(guest)}>{(rows) => <Given guest={guest} rows={rows} />}</Asked>
      <SeenInterfaces guest={guest} />
    </Stack>
  );
}

function Given({ guest, rows }: { guest: GuestRow; rows: readonly PendingRow[] }) {
  const [dialog, setDialog] = useState<Dialog>();
  const cards = devices(guest.type, rows).filter((one) => one.sort === "net");
  const fresh = newDevices(guest.type).find((one) => one.stem === "net");
  return (
    <section aria-labelledby="given-network">
      <Group justify="space-between" mb="xs">
        <Title order={2} size="h4" id="given-network">
          As it is given
        </Title>
        {fresh !== undefined && (
          <Needing wanted={{ method: "PUT", path: `${placeOf(guest)}/config` }}>
            <Button
              variant="default"
              size="compact-md"
              leftSection={<IconPlus size={16} />}
              onClick={() => setDialog({ what: "add", device: fresh })}
            >
              Add
            </Button>
          </Needing>
        )}
      </Group>
      {cards.length === 0 ? (
        <Text size="sm">It is given no network.</Text>
      ) : (
        <OptionTable
          guest={guest}
          label="Network as it is given"
          rows={cards}
          waitingKeys={new Set(waiting(rows).map((row) => row.key))}
          offered={(row) => {
            const device = cards.find((one) => one.id === row.id);
            return device && <DeviceMenu guest={guest} device={device} onOpen={setDialog} />;
          }}
        />
      )}
      {dialog !== undefined && (
        <DeviceDialog guest={guest} dialog={dialog} rows={rows} onClose={() => setDialog(undefined)} />
      )}
    </section>
  );
}
