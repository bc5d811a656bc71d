/** Where users' passwords are. */
import { Table } from "@mantine/core";
import { Asked } from "../../components/Asked";
import { WideTable } from "../../components/WideTable";
import { useRealms } from "../../hooks/access";
import { AccessFrame } from "./AccessFrame";

export function RealmsPage() {
  const realms = useRealms();
  return (
    <AccessFrame title="Realms" about="A realm says where a user's password is: the part of the name after @.">
      <Asked query={realms}>
        {(rows) => (
          <WideTable label="Realms" head={["Realm", "Type", "Comment"]} minWidth={320}>
            {rows.map((row) => (
              <Table.Tr key={row.realm}>
                <Table.Th scope="row">{row.realm}</Table.Th>
                <Table.Td>{row.type}</Table.Td>
                <Table.Td>{row.comment}</Table.Td>
              </Table.Tr>
            ))}
          </WideTable>
        )}
      </Asked>
    </AccessFrame>
  );
}
