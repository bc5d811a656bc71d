/** A guest's network: what it is given, and what it sees of it. */
import { Alert, Button, Group, Loader, Stack, Text, Title } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useState } from "react";
import { told } from "../../api/errors";
import { usePending } from "../../hooks/guest";
import type { GuestRow } from "../../hooks/resources";
import { devices, newDevices } from "../../logic/devices";
import { waiting } from "../../logic/guestConfig";
import { DeviceDialog } from "./DeviceDialog";
import { DeviceMenu } from "./DeviceMenu";
import type { Dialog } from "./dialogs";
import { OptionTable } from "./OptionTable";
import { SeenInterfaces } from "./SeenInterfaces";

export function Network({ guest }: { guest: GuestRow }) {
  return (
    <Stack gap="lg">
      <Given guest={guest} />
      <SeenInterfaces guest={guest} />
    </Stack>
  );
}

function Given({ guest }: { guest: GuestRow }) {
  const { data: rows, error } = usePending(guest);
  const [dialog, setDialog] = useState<Dialog>();
  if (error !== null) {
    return (
      <Alert color="red" role="alert">
        {told(error)}
      </Alert>
    );
  }
  if (rows === undefined) {
    return <Loader aria-label="Loading" />;
  }
  const cards = devices(guest.type, rows).filter((one) => one.sort === "net");
  const fresh = newDevices(guest.type).find((one) => one.stem === "net");
  return (
    <section aria-labelledby="given-network">
      <Group justify="space-between" mb="xs">
        <Title order={2} size="h4" id="given-network">
          As it is given
        </Title>
        {fresh !== undefined && (
          <Button
            variant="default"
            size="compact-md"
            leftSection={<IconPlus size={16} />}
            onClick={() => setDialog({ what: "add", device: fresh })}
          >
            Add
          </Button>
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
