import { Stack, Title } from "@mantine/core";
import { GuestTable } from "../components/GuestTable";
import { useGuests } from "../hooks/resources";

export function Overview() {
  const guests = useGuests();
  return (
    <Stack>
      <Title order={1}>Overview</Title>
      <GuestTable rows={guests.data ?? []} />
    </Stack>
  );
}
