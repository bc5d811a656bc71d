/** Who may come in. */
import { Button, Group, Table, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { ActionButton } from "../../components/ActionButton";
import { Asked } from "../../components/Asked";
import { FormDialog } from "../../components/FormDialog";
import { FactorsDialog } from "../../components/factors/FactorsDialog";
import { WideTable } from "../../components/WideTable";
import { type UserRow, useGroups, useUsers } from "../../hooks/access";
import { useAcl } from "../../hooks/acl";
import { useUser } from "../../hooks/session";
import { addUser, editUser, expiries, removeUser, setPassword } from "../../logic/access";
import { lockOf, unlockFactors } from "../../logic/factors";
import { asValues, type FieldSpec } from "../../logic/schema";
import { moment } from "../../logic/units";
import { AccessFrame } from "./AccessFrame";

const now = () => Date.now() / 1000;

export function UsersPage() {
  const users = useUsers();
  const groups = useGroups().data?.map((group) => group.groupid) ?? [];
  return (
    <AccessFrame
      title="Users"
      about="root@pam may do everything. All others may do what they are permitted."
      actions={
        <FormDialog
          label="Add user"
          title="Add user"
          look={{}}
          operation={{ method: "POST", path: "/access/users" }}
          fields={[
            { name: "userid", label: "User", help: "name@pve has a password here, name@pam the system's" },
            { name: "password", secret: true, help: "Of users of the realm pve: 8 characters at least" },
            ...details(groups, expiries(now())),
          ]}
          initial={{ enable: "1" }}
          action={addUser}
          columns={2}
        />
      }
    >
      <Asked query={users}>{(rows) => <Rows rows={rows} groups={groups} />}</Asked>
    </AccessFrame>
  );
}

function details(groups: readonly string[], ends: ReturnType<typeof expiries>): readonly FieldSpec[] {
  return [
    { name: "firstname", label: "First name" },
    { name: "lastname", label: "Last name" },
    { name: "email", label: "E-mail" },
    { name: "groups", many: true, options: groups },
    { name: "expire", label: "Expires", options: ends },
    { name: "comment", lines: 1 },
    { name: "enable", label: "May log in" },
  ];
}

function Rows({ rows, groups }: { rows: readonly UserRow[]; groups: readonly string[] }) {
  return (
    <WideTable label="Users" head={["User", "Name", "Groups", "State", "Expires", "Comment", "Change"]} minWidth={900}>
      {rows.map((row) => (
        <Table.Tr key={row.userid}>
          <Table.Th scope="row">{row.userid}</Table.Th>
          <Table.Td>
            {[row.firstname, row.lastname].filter(Boolean).join(" ")}
            {row.email && (
              <Text size="xs" c="dimmed">
                {row.email}
              </Text>
            )}
          </Table.Td>
          <Table.Td>{row.groups.replaceAll(",", ", ")}</Table.Td>
          <Table.Td>
            {row.enable === 0 ? "disabled" : "enabled"}
            {lockOf(row, now()) && (
              <Text size="xs" c="red">
                {lockOf(row, now())}
              </Text>
            )}
          </Table.Td>
          <Table.Td className="figures">{row.expire ? moment(row.expire) : "never"}</Table.Td>
          <Table.Td>{row.comment}</Table.Td>
          <Table.Td>
            <Changes row={row} groups={groups} />
          </Table.Td>
        </Table.Tr>
      ))}
    </WideTable>
  );
}

const small = { variant: "default", size: "compact-sm" } as const;

function Changes({ row, groups }: { row: UserRow; groups: readonly string[] }) {
  const me = useUser();
  const grants = useAcl().data?.filter((entry) => entry.ugid.split("!")[0] === row.userid).length ?? 0;
  const [opened, { open, close }] = useDisclosure();
  const { tokens: _, userid, "realm-type": realm, "totp-locked": _locked, "tfa-locked-until": _until, ...kept } = row;
  const before = { ...asValues(kept), enable: String(row.enable ?? 1), expire: String(row.expire ?? 0) };
  return (
    <Group gap={4} wrap="nowrap">
      <FormDialog
        label="Edit"
        title={`Change ${userid}`}
        look={small}
        operation={{ method: "PUT", path: "/access/users/{userid}" }}
        fields={details(groups, expiries(now(), row.expire))}
        initial={before}
        action={(values) => editUser(userid, before, values)}
        submit="Save"
        columns={2}
      />
      {realm === "pve" && (
        <FormDialog
          label="Password"
          title={`Set the password of ${userid}`}
          look={small}
          operation={{ method: "PUT", path: "/access/password" }}
          fields={[
            { name: "password", label: "New password", secret: true, help: "8 characters at least" },
            ...(me === "root@pam"
              ? []
              : [{ name: "confirmation-password", label: "Your own present password", secret: true, required: true }]),
          ]}
          action={(values) => setPassword(userid, values)}
          submit="Set"
        />
      )}
      <Button {...small} onClick={open} aria-label={`Second factors of ${userid}`}>
        Second factors
      </Button>
      <FactorsDialog userid={userid} opened={opened} onClose={close} />
      {lockOf(row, now()) && (
        <ActionButton action={unlockFactors(userid)} size="compact-sm" plain>
          Unlock
        </ActionButton>
      )}
      {userid !== "root@pam" && (
        <ActionButton action={removeUser(userid, row.tokens.length, grants)} size="compact-sm" plain>
          Remove
        </ActionButton>
      )}
    </Group>
  );
}
