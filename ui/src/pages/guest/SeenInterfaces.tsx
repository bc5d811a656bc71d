/** The interfaces as the guest's own kernel or its agent tells them. */
import { Alert, Stack, Table, Text, Title } from "@mantine/core";
import { told } from "../../api/errors";
import { WideTable } from "../../components/WideTable";
import { useInterfaces } from "../../hooks/interfaces";
import type { GuestRow } from "../../hooks/resources";
import type { SeenInterface } from "../../logic/agentAnswers";
import { bytes } from "../../logic/units";

export function SeenInterfaces({ guest }: { guest: GuestRow }) {
  return (
    <section aria-labelledby="seen-interfaces">
      <Title order={2} size="h4" id="seen-interfaces" mb="sm">
        As the guest sees it
      </Title>
      {guest.status === "running" ? <Seen guest={guest} /> : <Text size="sm">The guest does not run.</Text>}
    </section>
  );
}

function Seen({ guest }: { guest: GuestRow }) {
  const { data, error, isPending } = useInterfaces(guest);
  if (error !== null) {
    return (
      <Alert color="yellow" role="status">
        <Stack gap={4}>
          <Text size="sm">{told(error)}</Text>
          {guest.type === "qemu" && (
            <Text size="sm">
              A VM is asked by its guest agent: it has to be installed in it, and set in its options.
            </Text>
          )}
        </Stack>
      </Alert>
    );
  }
  if (isPending) {
    return <Text size="sm">Asking the guest …</Text>;
  }
  return data.length === 0 ? <Text size="sm">It has no interfaces.</Text> : <Interfaces rows={data} />;
}

function Interfaces({ rows }: { rows: readonly SeenInterface[] }) {
  const counted = rows.some((row) => row.received !== undefined);
  return (
    <WideTable
      label="Interfaces as the guest sees them"
      head={["Interface", "Hardware address", "Addresses", ...(counted ? ["Received", "Sent"] : [])]}
    >
      {rows.map((row) => (
        <Table.Tr key={row.name}>
          <Table.Td>{row.name}</Table.Td>
          <Table.Td className="figures">{row.hwaddr ?? "–"}</Table.Td>
          <Table.Td className="figures">
            {row.addresses.length === 0 ? "none" : row.addresses.map((text) => <div key={text}>{text}</div>)}
          </Table.Td>
          {counted && <Table.Td className="figures">{bytes(row.received)}</Table.Td>}
          {counted && <Table.Td className="figures">{bytes(row.sent)}</Table.Td>}
        </Table.Tr>
      ))}
    </WideTable>
  );
}
