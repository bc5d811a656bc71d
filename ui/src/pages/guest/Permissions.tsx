/** Who may do what with a guest. */
import { Button, Group, Table, Text, Title } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconPlus } from "@tabler/icons-react";
import { ActionButton } from "../../components/ActionButton";
import { Asked } from "../../components/Asked";
import { Empty } from "../../components/Empty";
import { FocusedModal } from "../../components/FocusedModal";
import { SchemaForm } from "../../components/SchemaForm";
import { WideTable } from "../../components/WideTable";
import { useAcl, useGrantable } from "../../hooks/acl";
import type { GuestRow } from "../../hooks/resources";
import { type AclEntry, grant, pathOf, reaching } from "../../logic/acl";
import { nameOf } from "../../logic/guestActions";

export function Permissions({ guest }: { guest: GuestRow }) {
  const acl = useAcl();
  const [adding, { open, close }] = useDisclosure();
  return (
    <section aria-labelledby="guest-permissions">
      <Group justify="space-between" mb="xs">
        <Title order={2} size="h4" id="guest-permissions">
          Who may do what with it
        </Title>
        <Button variant="default" size="compact-md" leftSection={<IconPlus size={16} />} onClick={open}>
          Add
        </Button>
      </Group>
      <Text size="sm" mb="sm">
        root@pam may do everything. Entries on a place above reach it, too.
      </Text>
      <Asked query={acl}>{(entries) => <Entries guest={guest} entries={reaching(entries, guest)} />}</Asked>
      {adding && <AddEntry guest={guest} onClose={close} />}
    </section>
  );
}

function Entries({ guest, entries }: { guest: GuestRow; entries: readonly AclEntry[] }) {
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
            {entry.path === pathOf(guest) && (
              <ActionButton
                action={grant(guest, { type: entry.type, who: entry.ugid, role: entry.roleid }, true)}
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

function AddEntry({ guest, onClose }: { guest: GuestRow; onClose: () => void }) {
  const known = useGrantable();
  return (
    <FocusedModal opened onClose={onClose} title={`Permission on ${nameOf(guest)}`}>
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
              grant(guest, { type: user === "" && group !== "" ? "group" : "user", who: user || group, role })
            }
            onDone={onClose}
            onCancel={onClose}
          />
        )}
      </Asked>
    </FocusedModal>
  );
}
