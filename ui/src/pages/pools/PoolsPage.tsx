/** Named sets of guests and storages, to which permissions are given at once. */
import { Accordion, Anchor, Group, Paper, Stack, Table, Text, Title } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { ActionButton } from "../../components/ActionButton";
import { Asked } from "../../components/Asked";
import { Empty } from "../../components/Empty";
import { FormDialog } from "../../components/FormDialog";
import { PageFrame } from "../../components/PageFrame";
import { SubjectPermissions } from "../../components/SubjectPermissions";
import { WideTable } from "../../components/WideTable";
import { type PoolMember, usePoolMembers } from "../../hooks/access";
import { type PoolRow, usePools } from "../../hooks/creating";
import { useGuests, useStorages } from "../../hooks/resources";
import { changed, leavePool, remove } from "../../logic/access";
import { given } from "../../logic/schema";

export function PoolsPage() {
  const pools = usePools();
  return (
    <PageFrame
      title="Pools"
      about="A pool is a named set of guests and storages. Who is permitted something on a pool is permitted it on its members."
      actions={
        <FormDialog
          label="Add pool"
          title="Add pool"
          look={{}}
          operation={{ method: "POST", path: "/pools" }}
          fields={[
            { name: "poolid", label: "Name", help: "A pool in another one is named PARENT/NAME" },
            { name: "comment", lines: 1 },
          ]}
          action={(values) => ({ title: "Add pool", method: "POST", path: "/pools", parameters: given(values) })}
        />
      }
    >
      <Asked query={pools}>
        {(rows) =>
          rows.length === 0 ? (
            <Empty title="There are no pools" />
          ) : (
            rows.map((pool) => <Pool key={pool.poolid} pool={pool} />)
          )
        }
      </Asked>
    </PageFrame>
  );
}

const small = { variant: "default", size: "compact-sm" } as const;

function Pool({ pool }: { pool: PoolRow }) {
  const members = usePoolMembers(pool.poolid);
  const before = { comment: pool.comment ?? "" };
  return (
    <Paper withBorder p="md" component="section" aria-label={pool.poolid}>
      <Stack gap="sm">
        <Group justify="space-between">
          <div>
            <Title order={2} size="h4">
              {pool.poolid}
            </Title>
            {pool.comment && (
              <Text size="sm" c="dimmed" className="lines">
                {pool.comment}
              </Text>
            )}
          </div>
          <Group gap={4}>
            <AddMembers poolid={pool.poolid} members={members.data ?? []} />
            <FormDialog
              label="Edit"
              title={`Change ${pool.poolid}`}
              look={small}
              operation={{ method: "PUT", path: "/pools" }}
              fields={[{ name: "comment", lines: 1 }]}
              initial={before}
              action={(values) => ({
                title: `Change ${pool.poolid}`,
                method: "PUT",
                path: "/pools",
                parameters: { poolid: pool.poolid, ...changed(before, values) },
              })}
              submit="Save"
            />
            <ActionButton
              action={remove(
                "pool",
                pool.poolid,
                "/pools",
                ["The pool and the grants on it; a pool with members stays"],
                {
                  poolid: pool.poolid,
                },
              )}
              size="compact-sm"
              plain
              disabled={(members.data?.length ?? 0) > 0}
            >
              Remove
            </ActionButton>
          </Group>
        </Group>
        <Asked query={members}>{(rows) => <Members poolid={pool.poolid} rows={rows} />}</Asked>
        <Accordion variant="contained">
          <Accordion.Item value="permissions">
            <Accordion.Control>Permissions</Accordion.Control>
            <Accordion.Panel>
              <SubjectPermissions subject={{ name: pool.poolid, path: `/pool/${pool.poolid}` }} />
            </Accordion.Panel>
          </Accordion.Item>
        </Accordion>
      </Stack>
    </Paper>
  );
}

function AddMembers({ poolid, members }: { poolid: string; members: readonly PoolMember[] }) {
  const inside = new Set(members.map((member) => String(member.vmid ?? member.storage)));
  const guests = (useGuests().data ?? []).filter((row) => !inside.has(String(row.vmid)));
  const storages = [...new Set(useStorages().data?.map((row) => row.storage))].filter((name) => !inside.has(name));
  return (
    <FormDialog
      label="Add members"
      title={`Add members to ${poolid}`}
      look={small}
      operation={{ method: "PUT", path: "/pools" }}
      fields={[
        {
          name: "vms",
          label: "Guests",
          many: true,
          options: guests.map((row) => ({ value: String(row.vmid), label: `${row.vmid} ${row.name ?? ""}` })),
        },
        { name: "storage", label: "Storages", many: true, options: storages },
        { name: "allow-move", label: "Take guests out of the pool that they are in" },
      ]}
      action={(values) => ({
        title: `Add members to ${poolid}`,
        method: "PUT",
        path: "/pools",
        parameters: { poolid, ...given(values) },
      })}
      submit="Add"
    />
  );
}

function Members({ poolid, rows }: { poolid: string; rows: readonly PoolMember[] }) {
  if (rows.length === 0) {
    return <Text size="sm">No members.</Text>;
  }
  return (
    <WideTable label={`Members of ${poolid}`} head={["Member", "Kind", "State", "Change"]} minWidth={380}>
      {rows.map((row) => (
        <Table.Tr key={row.id}>
          <Table.Th scope="row">
            {row.vmid === undefined ? (
              row.storage
            ) : (
              <Anchor component={Link} to={`/guests/${row.vmid}/summary`}>
                {row.vmid} {row.name}
              </Anchor>
            )}
          </Table.Th>
          <Table.Td>{{ lxc: "CT", qemu: "VM", storage: "storage" }[row.type]}</Table.Td>
          <Table.Td>{row.status}</Table.Td>
          <Table.Td>
            <ActionButton action={leavePool(poolid, row)} size="compact-sm">
              Take out
            </ActionButton>
          </Table.Td>
        </Table.Tr>
      ))}
    </WideTable>
  );
}
