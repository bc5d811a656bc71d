/** Retention tried out: which backups go by some rules, which stay and why; and pruning by them. */
import { Alert, Badge, Group, Loader, NumberInput, Select, SimpleGrid, Stack, Table, Text } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useState } from "react";
import { told } from "../../api/errors";
import { ActionButton } from "../../components/ActionButton";
import { useBackupStorages, useBackups, usePrunePreview } from "../../hooks/backups";
import { useGuests } from "../../hooks/resources";
import { useStorageConfigs } from "../../hooks/storage";
import { shortName } from "../../logic/backups";
import { nameOf } from "../../logic/guestActions";
import { print } from "../../logic/propertyString";
import { type PruneRow, prune, RULES, whyPruned } from "../../logic/pruning";
import { bytes, moment } from "../../logic/units";

const MARKS: Readonly<Record<PruneRow["mark"], readonly [string, string]>> = {
  keep: ["stays", "green"],
  remove: ["goes", "red"],
  protected: ["stays", "blue"],
  renamed: ["stays", "gray"],
};

export function Prune({ node }: { node: string }) {
  const storages = useBackupStorages(node);
  const [chosen, setChosen] = useState<string | null>(null);
  const [guest, setGuest] = useState<string | null>(null);
  const [rules, setRules] = useState<Readonly<Record<string, string>>>({});
  const [settled] = useDebouncedValue(rules, 300);
  const storage = chosen ?? storages?.[0] ?? "";
  const keep = print(Object.fromEntries(Object.entries(settled).filter(([, count]) => count !== "")));
  const vmid = guest === null ? undefined : Number(guest);
  const own = useStorageConfigs().data?.find((one) => one.storage === storage)?.["prune-backups"];
  const pruning = { node, storage, keep: keep === "" ? undefined : keep, vmid };
  const guests = useGuests().data ?? [];
  if (storages === undefined) {
    return <Loader aria-label="Loading" />;
  }
  if (storages.length === 0) {
    return <Text>No storage of this node holds backups.</Text>;
  }
  return (
    <Stack>
      <Group align="flex-end">
        <Select label="Storage" data={[...storages]} value={storage} allowDeselect={false} onChange={setChosen} />
        <Select
          label="Guest"
          placeholder="All"
          clearable
          searchable
          limit={100}
          data={guests.map((row) => ({ value: String(row.vmid), label: `${nameOf(row)} (${row.vmid})` }))}
          value={guest}
          onChange={setGuest}
        />
      </Group>
      <Rules rules={rules} onChange={setRules} />
      <Text size="sm">
        {keep !== ""
          ? `By these rules: ${keep}`
          : own === undefined
            ? "The storage has no rules of its own: give some."
            : `By the storage's own rules: ${own}`}
      </Text>
      {(keep !== "" || own !== undefined) && <Preview pruning={pruning} />}
    </Stack>
  );
}

interface RulesProps {
  rules: Readonly<Record<string, string>>;
  onChange: (rules: Readonly<Record<string, string>>) => void;
}

function Rules({ rules, onChange }: RulesProps) {
  return (
    <SimpleGrid cols={{ base: 2, sm: 3, lg: 6 }}>
      {RULES.map((name) => (
        <NumberInput
          key={name}
          label={name}
          min={0}
          max={1_000_000}
          allowDecimal={false}
          value={rules[name] ?? ""}
          onChange={(count) => onChange({ ...rules, [name]: String(count) })}
        />
      ))}
    </SimpleGrid>
  );
}

interface Pruned {
  readonly node: string;
  readonly storage: string;
  readonly keep?: string | undefined;
  readonly vmid?: number | undefined;
}

function Preview({ pruning }: { pruning: Pruned }) {
  const { data, error } = usePrunePreview(pruning);
  const sizes = new Map(useBackups(pruning.node).data?.rows.map((row) => [row.volid, row.size]));
  if (error !== null) {
    return (
      <Alert color="red" role="alert">
        {told(error)}
      </Alert>
    );
  }
  if (data === undefined) {
    return <Loader aria-label="Loading" />;
  }
  const goes = data.filter((row) => row.mark === "remove").map((row) => row.volid);
  const size = bytes(goes.reduce((sum, volid) => sum + (sizes.get(volid) ?? 0), 0));
  return (
    <Stack>
      <Group justify="space-between">
        <Text role="status">
          {data.length === 0
            ? "No backups"
            : `${goes.length} of ${data.length} backups would go (${size}), ${data.length - goes.length} would stay.`}
        </Text>
        {goes.length > 0 && <ActionButton action={prune(pruning, goes, size)}>Prune</ActionButton>}
      </Group>
      {data.length > 0 && <PruneTable rows={data} sizes={sizes} />}
    </Stack>
  );
}

function PruneTable({ rows, sizes }: { rows: readonly PruneRow[]; sizes: ReadonlyMap<string, number> }) {
  return (
    <Table.ScrollContainer
      minWidth={760}
      maxHeight="60vh"
      type="native"
      tabIndex={0}
      role="region"
      aria-label="What pruning would do"
    >
      <Table aria-label="What pruning would do" stickyHeader>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Backup</Table.Th>
            <Table.Th>Made</Table.Th>
            <Table.Th ta="right">Size</Table.Th>
            <Table.Th>What</Table.Th>
            <Table.Th>Why</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.map((row) => {
            const [word, color] = MARKS[row.mark];
            return (
              <Table.Tr key={row.volid}>
                <Table.Td className="wrapped">{shortName(row.volid)}</Table.Td>
                <Table.Td className="figures" style={{ whiteSpace: "nowrap" }}>
                  {moment(row.ctime)}
                </Table.Td>
                <Table.Td ta="right" className="figures" style={{ whiteSpace: "nowrap" }}>
                  {bytes(sizes.get(row.volid))}
                </Table.Td>
                <Table.Td>
                  <Badge variant="light" c="var(--mantine-color-text)" color={color} tt="none" miw="max-content">
                    {word}
                  </Badge>
                </Table.Td>
                <Table.Td>{whyPruned(row)}</Table.Td>
              </Table.Tr>
            );
          })}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}
