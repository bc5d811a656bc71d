/** Roles: privileges under a name. */
import { Group, Table, Text } from "@mantine/core";
import { ActionButton } from "../../components/ActionButton";
import { Asked } from "../../components/Asked";
import { FormDialog } from "../../components/FormDialog";
import { WideTable } from "../../components/WideTable";
import { type RoleRow, useRoles } from "../../hooks/access";
import { remove } from "../../logic/access";
import { path } from "../../logic/actions";
import { given } from "../../logic/schema";
import { AccessFrame } from "./AccessFrame";

const privileges = (row: RoleRow) => (row.privs === "" ? [] : row.privs.split(","));

export function RolesPage() {
  const roles = useRoles();
  const known = [...new Set(roles.data?.flatMap(privileges))].sort();
  return (
    <AccessFrame
      title="Roles"
      about="A role has privileges; permissions give roles to users, groups and tokens on a path."
      actions={
        <FormDialog
          label="Add role"
          title="Add role"
          look={{}}
          operation={{ method: "POST", path: "/access/roles" }}
          fields={[
            { name: "roleid", label: "Name" },
            { name: "privs", label: "Privileges", boxes: true, options: known },
          ]}
          action={(values) => ({ title: "Add role", method: "POST", path: "/access/roles", parameters: given(values) })}
        />
      }
    >
      <Asked query={roles}>{(rows) => <Rows rows={rows} known={known} />}</Asked>
    </AccessFrame>
  );
}

function Rows({ rows, known }: { rows: readonly RoleRow[]; known: readonly string[] }) {
  return (
    <WideTable label="Roles" head={["Role", "Privileges", "Change"]} minWidth={520}>
      {rows.map((row) => (
        <Table.Tr key={row.roleid}>
          <Table.Th scope="row">{row.roleid}</Table.Th>
          <Table.Td>
            <Text size="sm">{privileges(row).join(", ") || "none"}</Text>
          </Table.Td>
          <Table.Td>{row.special ? "built in" : <Changes row={row} known={known} />}</Table.Td>
        </Table.Tr>
      ))}
    </WideTable>
  );
}

function Changes({ row, known }: { row: RoleRow; known: readonly string[] }) {
  const place = path`/access/roles/${row.roleid}`;
  return (
    <Group gap={4} wrap="nowrap">
      <FormDialog
        label="Edit"
        title={`Change ${row.roleid}`}
        look={{ variant: "default", size: "compact-sm" }}
        operation={{ method: "PUT", path: "/access/roles/{roleid}" }}
        fields={[{ name: "privs", label: "Privileges", boxes: true, options: known }]}
        initial={{ privs: row.privs }}
        action={({ privs = "" }) => ({
          title: `Change ${row.roleid}`,
          method: "PUT",
          path: place,
          parameters: { privs },
        })}
        submit="Save"
      />
      <ActionButton action={remove("role", row.roleid, place, ["Every grant of this role"])} size="compact-sm" plain>
        Remove
      </ActionButton>
    </Group>
  );
}
