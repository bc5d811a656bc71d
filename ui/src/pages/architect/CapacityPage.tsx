/** What still fits on this host, and why no more. */
import { Grid, Paper, Stack, Text, Title } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useState } from "react";
import { ApiError } from "../../api/errors";
import { Asked } from "../../components/Asked";
import { SchemaFields } from "../../components/form/SchemaFields";
import { type Capacity, useCapacity, useCatalog } from "../../hooks/architect";
import { useRequestSchema } from "../../hooks/schema";
import { type FieldSpec, faultsOf, given, type Values } from "../../logic/schema";
import { bytes } from "../../logic/units";
import { ArchitectFrame } from "./ArchitectFrame";
import { FitView } from "./FitView";
import { ResourceBars } from "./ResourceBars";

export function CapacityPage() {
  const [values, setValues] = useState<Values>({});
  const [asked] = useDebouncedValue(values, 300);
  const { schema } = useRequestSchema({ method: "GET", path: "/architect/capacity" });
  const catalog = useCatalog("").data;
  const fields: readonly FieldSpec[] = [
    {
      name: "service",
      label: "A service at its usual size",
      options: catalog?.map((row) => ({ value: row.name, label: row.title })) ?? [],
    },
    { name: "cores", label: "Processors", placeholder: "1" },
    { name: "memory", label: "Memory", placeholder: "512M" },
    { name: "disk", label: "Disk", placeholder: "4G" },
  ];
  const faults = schema === undefined ? {} : faultsOf(schema, fields, asked);
  const capacity = useCapacity(given(asked));
  const refused = capacity.error instanceof ApiError ? capacity.error.errors : {};
  return (
    <ArchitectFrame
      title="Capacity"
      about="How many more guests this host has room for if every guest takes all that it was promised. Nothing is changed."
    >
      {schema !== undefined && (
        <Paper withBorder p="md" component="section" aria-labelledby="example">
          <Title order={2} size="h4" mb="xs" id="example">
            Room for more of
          </Title>
          <SchemaFields
            schema={schema}
            fields={fields}
            values={values}
            errors={{ ...refused, ...faults }}
            onChange={(name, value) => setValues((before) => ({ ...before, [name]: value }))}
            columns={4}
          />
        </Paper>
      )}
      {Object.keys(refused).length === 0 && <Asked query={capacity}>{(found) => <Found capacity={found} />}</Asked>}
    </ArchitectFrame>
  );
}

const amount = (count: number, what: string) => `${count} ${what}${count === 1 ? "" : "s"}`;

function Found({ capacity }: { capacity: Capacity }) {
  const { example } = capacity;
  const size = `${example.cores} ${example.cores === 1 ? "processor" : "processors"}, ${bytes(example.memory)} of memory, ${bytes(example.disk)} of disk`;
  return (
    <Stack>
      <Text role="status">
        {example.name}: {size}. This host has {amount(capacity.guests.ct ?? 0, "container")} and{" "}
        {amount(capacity.guests.vm ?? 0, "VM")} now.
      </Text>
      <Grid>
        {capacity.fits.map((fit) => (
          <Grid.Col key={fit.kind} span={{ base: 12, md: 6 }}>
            <FitView fit={fit} />
          </Grid.Col>
        ))}
      </Grid>
      <ResourceBars capacity={capacity} />
      {capacity.notes.map((note) => (
        <Text key={note} size="sm">
          {note}
        </Text>
      ))}
    </Stack>
  );
}
