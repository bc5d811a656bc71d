/** A guest's network: what it is given, and what it sees of it. */
import { Stack } from "@mantine/core";
import type { GuestRow } from "../../hooks/resources";
import { SeenInterfaces } from "./SeenInterfaces";

export function Network({ guest }: { guest: GuestRow }) {
  return (
    <Stack gap="lg">
      <SeenInterfaces guest={guest} />
    </Stack>
  );
}
