/** Groups of users, who are permitted things together. */
import { Group, Table } from "@mantine/core";
import { ActionButton } from "../../components/ActionButton";
import { Asked } from "../../components/Asked";
import { Empty } from "../../components/Empty";
import { FormDialog } from "../../components/FormDialog";
import { WideTable } from "../../components/WideTable";
import { type GroupRow, useGroups } from "../../hooks/access";
import { changed, remove } from "../../logic/access";
import { path } from "../../logic/actions";
import { given } from "../../logic/schema";
import { AccessFrame } from "./AccessFrame";

export function GroupsPage() {
  const groups = useGroups();
  return (
    <AccessFrame
      title="Groups"
      about="Users are put into groups where users are changed."
      actions={
        <FormDialog
          label="Add group"
          title="Add group"
          look={{}}
          operation={{ method: "POST", path: "/access/groups" }}
          fields={[
            { name: "groupid", label: "Name" },
            { name: "comment", lines: 1 },
          ]}
          action={(values) => ({
            title: "Add group",
            method: "POST",
            path: "/access/groups",
            parameters: given(values),
          })}
        />
      }
    >
      <Asked query={groups}>{(rows) => <Rows rows={rows} />}</Asked>
    </AccessFrame>
  );
}

function Rows({ rows }: { rows: readonly GroupRow[] }) {
  if (rows.length === 0) {
    return <Empty title="There are no groups" />;
  }
  return (
    <WideTable label="Groups" head={["Group", "Users", "Comment", "Change"]}>
      {rows.map((row) => (
        <Table.Tr key={row.groupid}>
          <Table.Th scope="row">{row.groupid}</Table.Th>
          <Table.Td>{row.users.replaceAll(",", ", ")}</Table.Td>
          <Table.Td>{row.comment}</Table.Td>
          <Table.Td>
            <Changes row={row} />
          </Table.Td>
        </Table.Tr>
      ))}
    </WideTable>
  );
}

function Changes({ row }: { row: GroupRow }) {
  const before = { comment: row.comment ?? "" };
  const place = path`/access/groups/${row.groupid}`;
  const members = row.users === "" ? 0 : row.users.split(",").length;
  return (
    <Group gap={4} wrap="nowrap">
      <FormDialog
        label="Edit"
        title={`Change ${row.groupid}`}
        look={{ variant: "default", size: "compact-sm" }}
        operation={{ method: "PUT", path: "/access/groups/{groupid}" }}
        fields={[{ name: "comment", lines: 1 }]}
        initial={before}
        action={(values) => ({
          title: `Change ${row.groupid}`,
          method: "PUT",
          path: place,
          parameters: changed(before, values),
        })}
        submit="Save"
      />
      <ActionButton
        action={remove("group", row.groupid, place, ["The grants of the group", `${members} users leave it`])}
        size="compact-sm"
        plain
      >
        Remove
      </ActionButton>
    </Group>
  );
}
