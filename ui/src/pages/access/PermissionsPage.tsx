/** Who may do what, and where. */
import { Select, Stack, Table, Text, Title } from "@mantine/core";
import { useState } from "react";
import { ActionButton } from "../../components/ActionButton";
import { Asked } from "../../components/Asked";
import { Empty } from "../../components/Empty";
import { FormDialog } from "../../components/FormDialog";
import { WideTable } from "../../components/WideTable";
import { usePermissions, useUsers } from "../../hooks/access";
import { useAcl, useGrantable } from "../../hooks/acl";
import { usePools } from "../../hooks/creating";
import { useGuests, useStorages } from "../../hooks/resources";
import { useUser } from "../../hooks/session";
import { giveRoles, samePrivileges, takeRole } from "../../logic/access";
import type { AclEntry } from "../../logic/acl";
import type { Choice } from "../../logic/schema";
import { AccessFrame } from "./AccessFrame";

const PLACES = ["/", "/vms", "/storage", "/pool", "/nodes", "/access", "/access/groups", "/sdn/zones/localnetwork"];

/** The paths that something of this host stands at. */
function usePaths(): Choice[] {
  const guests = useGuests().data ?? [];
  const storages = [...new Set(useStorages().data?.map((row) => row.storage))];
  const pools = usePools().data ?? [];
  return [
    ...PLACES,
    ...storages.map((name) => `/storage/${name}`),
    ...pools.map((pool) => `/pool/${pool.poolid}`),
    ...guests.map((guest) => `/vms/${guest.vmid}`),
  ];
}

function useTokenNames(): string[] {
  return useUsers().data?.flatMap((user) => user.tokens.map((token) => `${user.userid}!${token.tokenid}`)) ?? [];
}

export function PermissionsPage() {
  const acl = useAcl();
  return (
    <AccessFrame
      title="Permissions"
      about="An entry gives a role on a path to a user, a group or a token, and on what is below it."
      actions={<Give />}
    >
      <Asked query={acl}>{(rows) => <Rows rows={rows} />}</Asked>
      <Effective />
    </AccessFrame>
  );
}

function Give() {
  const known = useGrantable().data ?? { users: [], groups: [], roles: [] };
  const paths = usePaths();
  const tokens = useTokenNames();
  return (
    <FormDialog
      label="Add permission"
      title="Add permission"
      look={{}}
      operation={{ method: "PUT", path: "/access/acl" }}
      fields={[
        { name: "path", options: paths, open: true },
        { name: "roles", many: true, options: known.roles },
        { name: "users", many: true, options: known.users },
        { name: "groups", many: true, options: known.groups },
        { name: "tokens", many: true, options: tokens },
        { name: "propagate", label: "On what is below it, too" },
      ]}
      initial={{ propagate: "1" }}
      action={giveRoles}
      submit="Add"
    />
  );
}

function Rows({ rows }: { rows: readonly AclEntry[] }) {
  if (rows.length === 0) {
    return <Empty title="Nobody but root@pam was permitted anything" />;
  }
  return (
    <WideTable label="Permissions" head={["Path", "Who", "Kind", "Role", "Below it, too", "Change"]} minWidth={640}>
      {rows.map((row) => (
        <Table.Tr key={[row.path, row.type, row.ugid, row.roleid].join(" ")}>
          <Table.Th scope="row">{row.path}</Table.Th>
          <Table.Td>{row.ugid}</Table.Td>
          <Table.Td>{row.type}</Table.Td>
          <Table.Td>{row.roleid}</Table.Td>
          <Table.Td>{row.propagate ? "yes" : "no"}</Table.Td>
          <Table.Td>
            <ActionButton action={takeRole(row)} size="compact-sm" plain>
              Remove
            </ActionButton>
          </Table.Td>
        </Table.Tr>
      ))}
    </WideTable>
  );
}

/** What somebody may do in the end. */
function Effective() {
  const me = useUser();
  const users = useUsers().data?.map((user) => user.userid) ?? [];
  const tokens = useTokenNames();
  const [who, setWho] = useState<string | null>(null);
  const chosen = who ?? me;
  const found = usePermissions(chosen);
  return (
    <Stack component="section" aria-labelledby="effective">
      <Title order={2} size="h3" id="effective">
        What somebody may do
      </Title>
      <Select
        label="User or token"
        searchable
        allowDeselect={false}
        maw={360}
        data={[...new Set([me, ...users, ...tokens])]}
        value={chosen}
        onChange={setWho}
      />
      <Asked query={found}>
        {(paths) =>
          Object.keys(paths).length === 0 ? (
            <Text>Nothing.</Text>
          ) : (
            <WideTable label={`What ${chosen} may do`} head={["Paths", "Privileges"]} minWidth={340}>
              {samePrivileges(paths).map(([privileges, places]) => (
                <Table.Tr key={privileges}>
                  <Table.Th scope="row" className="lines" style={{ verticalAlign: "top" }}>
                    {places.join("\n")}
                  </Table.Th>
                  <Table.Td>{privileges}</Table.Td>
                </Table.Tr>
              ))}
            </WideTable>
          )
        }
      </Asked>
    </Stack>
  );
}
