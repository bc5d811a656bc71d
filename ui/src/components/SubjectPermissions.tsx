/** Who may do what with a guest, a storage or a pool. */
import { Button, Group, Table, Text, Title } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconPlus } from "@tabler/icons-react";
import { useAcl, useGrantable } from "../hooks/acl";
import { type AclEntry, grant, reaching, type Subject } from "../logic/acl";
import { ActionButton } from "./ActionButton";
import { Asked } from "./Asked";
import { Needing } from "./Denied";
import { Empty } from "./Empty";
import { FocusedModal } from "./FocusedModal";
import { SchemaForm } from "./SchemaForm";
import { WideTable } from "./WideTable";

export function SubjectPermissions({ subject }: { subject: Subject }) {
  const acl = useAcl();
  const [adding, { open, close }] = useDisclosure();
  return (
    <section aria-labelledby="who-may">
      <Group justify="space-between" mb="xs">
        <Title order={2} size="h4" id="who-may">
          Who may do what with it
        </Title>
        <Needing wanted={{ method: "PUT", path: "/access/acl", parameters: { path: subject.path } }}>
          <Button variant="default" size="compact-md" leftSection={<IconPlus size={16} />} onClick={open}>
            Add
          </Button>
        </Needing>
      </Group>
      <Text size="sm" mb="sm">
        root@pam may do everything. Entries on a place above reach it, too.
      </Text>
      <Asked query={acl}>{(entries) => <Entries subject={subject} entries={reaching(entries, subject)} />}</Asked>
      {adding && <AddEntry subject={subject} onClose={close} />}
    </section>
  );
}

function Entries({ subject, entries }: { subject: Subject; entries: readonly AclEntry[] }) {
  if (entries.length === 0) {
    return <Empty title="No entry of the access list reaches it" />;
  }
  return (
    <WideTable label="Permissions" head={["Who", "Kind", "Role", "On", "Change"]}>
      {entries.map((entry) => (
        <Table.Tr key={[entry.path, entry.type, entry.ugid, entry.roleid].join(" ")}>
          <Table.Td>{entry.ugid}</Table.Td>
          <Table.Td>{entry.type}</Table.Td>
          <Table.Td>{entry.roleid}</Table.Td>
          <Table.Td>{entry.path}</Table.Td>
          <Table.Td>
            {entry.path === subject.path && (
              <ActionButton
                action={grant(subject, { type: entry.type, who: entry.ugid, role: entry.roleid }, true)}
                size="compact-sm"
                plain
              >
                Remove
              </ActionButton>
            )}
          </Table.Td>
        </Table.Tr>
      ))}
    </WideTable>
  );
}

function AddEntry({ subject, onClose }: { subject: Subject; onClose: () => void }) {
  const known = useGrantable();
  return (
    <FocusedModal opened onClose={onClose} title={`Permission on ${subject.name}`}>
      <Asked query={known}>
        {({ users, groups, roles }) => (
          <SchemaForm
            operation={{ method: "PUT", path: "/access/acl" }}
            fields={[
              { name: "users", label: "User", options: [...users] },
              { name: "groups", label: "Group", options: [...groups], help: "A user or a group." },
              { name: "roles", label: "Role", required: true, options: [...roles] },
            ]}
            submit="Add"
            action={({ users: user = "", groups: group = "", roles: role = "" }) =>
              grant(subject, { type: user === "" && group !== "" ? "group" : "user", who: user || group, role })
            }
            onDone={onClose}
            onCancel={onClose}
          />
        )}
      </Asked>
    </FocusedModal>
  );
}
