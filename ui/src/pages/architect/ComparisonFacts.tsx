/** What has no figure: how the kinds are kept apart, what they have, what could not be measured, what the host was. */
import { Alert, Stack, Table, Title } from "@mantine/core";
import { WideTable } from "../../components/WideTable";
import type { Comparison } from "../../hooks/architect";
import { reasons } from "../../logic/comparison";

type Side = Comparison["ct"];

export function ComparisonFacts({ comparison }: { comparison: Comparison }) {
  const sides = [comparison.ct, comparison.vm].filter((side) => side !== null);
  return (
    <Stack>
      <Facts title="Isolation" sides={sides} of={(side) => side.isolation ?? {}} />
      <Facts title="Hardware" sides={sides} of={(side) => side.hardware ?? {}} />
      {sides.flatMap((side) =>
        reasons(side.missing ?? {}).map(([why, measures]) => (
          <Alert
            key={`${side.kind} ${why}`}
            color="yellow"
            title={`Not measured of the ${nameOf(side)}: ${measures.join(", ")}`}
          >
            {why}
          </Alert>
        )),
      )}
      <Title order={2} size="h4">
        The host then
      </Title>
      <Table>
        <Table.Tbody>
          {Object.entries(comparison.host).map(([key, value]) => (
            <Table.Tr key={key}>
              <Table.Th scope="row" w="10rem">
                {key}
              </Table.Th>
              <Table.Td className="wrapped">{value}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Stack>
  );
}

const nameOf = (side: Side) => (side.kind === "ct" ? "container" : "VM");

interface Props {
  title: string;
  sides: readonly Side[];
  of: (side: Side) => Readonly<Record<string, string>>;
}

function Facts({ title, sides, of }: Props) {
  const names = [...new Set(sides.flatMap((side) => Object.keys(of(side))))];
  if (names.length === 0) {
    return null;
  }
  return (
    <section>
      <Title order={2} size="h4">
        {title}
      </Title>
      <WideTable
        label={title}
        head={["Of", ...sides.map((side) => (side.kind === "ct" ? "Container" : "VM"))]}
        minWidth={560}
      >
        {names.map((name) => (
          <Table.Tr key={name}>
            <Table.Th scope="row">{name}</Table.Th>
            {sides.map((side) => (
              <Table.Td key={side.kind}>{of(side)[name] ?? "–"}</Table.Td>
            ))}
          </Table.Tr>
        ))}
      </WideTable>
    </section>
  );
}
