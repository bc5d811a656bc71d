/** What a disk tells of its health. */
import { Code, Stack, Table, Text } from "@mantine/core";
import { Asked } from "../../components/Asked";
import { WideTable } from "../../components/WideTable";
import { useSmart } from "../../hooks/disks";

const HEAD = ["ID", "Attribute", "Value", "Worst", "Threshold", "Raw", "Fails"];

export function Smart({ node, disk }: { node: string; disk: string }) {
  return (
    <Asked query={useSmart(node, disk)}>
      {({ health, text, attributes }) => (
        <Stack>
          <Text>Health: {health}</Text>
          {text !== undefined && (
            <Code block className="wrapped">
              {text}
            </Code>
          )}
          {attributes !== undefined && (
            <WideTable label="Attributes" head={HEAD} minWidth={620}>
              {attributes.map((one) => (
                <Table.Tr key={one.id}>
                  <Table.Td>{one.id}</Table.Td>
                  <Table.Td>{one.name}</Table.Td>
                  <Table.Td className="figures">{one.value}</Table.Td>
                  <Table.Td className="figures">{one.worst}</Table.Td>
                  <Table.Td className="figures">{one.threshold}</Table.Td>
                  <Table.Td className="figures">{one.raw}</Table.Td>
                  <Table.Td>{one.fail}</Table.Td>
                </Table.Tr>
              ))}
            </WideTable>
          )}
        </Stack>
      )}
    </Asked>
  );
}
