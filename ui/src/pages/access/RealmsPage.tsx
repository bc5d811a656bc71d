/** Where users' passwords are: here, on the host, in a directory, at an OpenID provider. */
import { Button, Group, Select, Stack, Table } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useState } from "react";
import { ActionButton, named } from "../../components/ActionButton";
import { Asked } from "../../components/Asked";
import { FocusedModal } from "../../components/FocusedModal";
import { FormDialog } from "../../components/FormDialog";
import { SchemaForm } from "../../components/SchemaForm";
import { WideTable } from "../../components/WideTable";
import { type RealmRow, useRealm, useRealms, useUsers } from "../../hooks/access";
import { addRealm, editRealm, REALM_TYPES, realmFields, removeRealm, syncRealm } from "../../logic/realms";
import { asValues } from "../../logic/schema";
import { AccessFrame } from "./AccessFrame";

const small = { variant: "default", size: "compact-sm" } as const;
const ADDED = ["ldap", "ad", "openid"];

export function RealmsPage() {
  const realms = useRealms();
  return (
    <AccessFrame
      title="Realms"
      about="A realm says where a user's password is: the part of the name after @."
      actions={<Add />}
    >
      <Asked query={realms}>{(rows) => <Rows rows={rows} />}</Asked>
    </AccessFrame>
  );
}

function Add() {
  const [opened, { open, close }] = useDisclosure();
  const [type, setType] = useState("ldap");
  return (
    <>
      <Button onClick={open}>Add realm</Button>
      <FocusedModal opened={opened} onClose={close} title="Add realm" size="lg">
        <Stack>
          <Select
            label="Type"
            allowDeselect={false}
            data={ADDED.map((value) => ({ value, label: REALM_TYPES[value] ?? value }))}
            value={type}
            onChange={(next) => setType(next ?? "ldap")}
          />
          <SchemaForm
            key={type}
            operation={{ method: "POST", path: "/access/domains" }}
            fields={[{ name: "realm", label: "Name", placeholder: "corp" }, ...realmFields(type, true)]}
            initial={type === "openid" ? {} : { mode: "ldaps", verify: "1", "check-connection": "1" }}
            action={(values) => addRealm(type, values)}
            submit="Add"
            columns={2}
            onCancel={close}
            onDone={close}
          />
        </Stack>
      </FocusedModal>
    </>
  );
}

function Rows({ rows }: { rows: readonly RealmRow[] }) {
  return (
    <WideTable label="Realms" head={["Realm", "Type", "At the login page", "Comment", "Change"]} minWidth={640}>
      {rows.map((row) => (
        <Table.Tr key={row.realm}>
          <Table.Th scope="row">{row.realm}</Table.Th>
          <Table.Td>{REALM_TYPES[row.type] ?? row.type}</Table.Td>
          <Table.Td>{row.default ? "chosen" : ""}</Table.Td>
          <Table.Td>{row.comment}</Table.Td>
          <Table.Td>
            <Changes row={row} />
          </Table.Td>
        </Table.Tr>
      ))}
    </WideTable>
  );
}

function Changes({ row: { realm, type } }: { row: RealmRow }) {
  const users = useUsers().data?.filter((user) => user.userid.endsWith(`@${realm}`)).length ?? 0;
  const built = !ADDED.includes(type);
  return (
    <Group gap={4} wrap="nowrap">
      <Edit realm={realm} type={type} />
      {(type === "ldap" || type === "ad") && (
        <>
          <Sync realm={realm} preview />
          <Sync realm={realm} />
        </>
      )}
      {!built && (
        <ActionButton action={removeRealm(realm, users)} size="compact-sm" plain>
          Remove
        </ActionButton>
      )}
    </Group>
  );
}

function Edit({ realm, type }: { realm: string; type: string }) {
  const [opened, { open, close }] = useDisclosure();
  return (
    <>
      <Button {...small} onClick={open} aria-label={named("Edit", `Change ${realm}`)}>
        Edit
      </Button>
      <FocusedModal opened={opened} onClose={close} title={`Change ${realm}`} size="lg">
        {opened && <EditForm realm={realm} type={type} onClose={close} />}
      </FocusedModal>
    </>
  );
}

function EditForm({ realm, type, onClose }: { realm: string; type: string; onClose: () => void }) {
  const found = useRealm(realm);
  return (
    <Asked query={found}>
      {({ type: _, digest: __, ...options }) => {
        const before = asValues(options);
        return (
          <SchemaForm
            operation={{ method: "PUT", path: "/access/domains/{realm}" }}
            fields={realmFields(type, false)}
            initial={before}
            action={(values) => editRealm(realm, before, values)}
            submit="Save"
            columns={2}
            onCancel={onClose}
            onDone={onClose}
          />
        );
      }}
    </Asked>
  );
}

function Sync({ realm, preview = false }: { realm: string; preview?: boolean }) {
  return (
    <FormDialog
      label={preview ? "Preview" : "Sync"}
      title={preview ? `Preview the sync of ${realm}` : `Sync ${realm}`}
      look={small}
      operation={{ method: "POST", path: "/access/domains/{realm}/sync" }}
      fields={[
        {
          name: "scope",
          label: "What to take over",
          options: [
            { value: "both", label: "users and groups" },
            { value: "users", label: "users" },
            { value: "groups", label: "groups" },
          ],
        },
        {
          name: "remove-vanished",
          label: "What goes of those who are not in the directory any more",
          options: [
            { value: "none", label: "nothing" },
            { value: "acl", label: "their permissions" },
            { value: "entry", label: "the users and groups themselves" },
            { value: "acl;entry;properties", label: "all, and what of others only this host says" },
          ],
        },
        { name: "enable-new", label: "New users may log in", on: true },
      ]}
      initial={{ scope: "both", "remove-vanished": "none", "enable-new": "1" }}
      action={(values) => syncRealm(realm, values, preview)}
      submit={preview ? "Preview" : "Sync"}
    />
  );
}
