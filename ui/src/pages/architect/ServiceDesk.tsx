/** The form of a service and, beside it, what the architect says of it as it is typed. */
import { Accordion, Button, Grid, Group, Loader, Paper, Stack, Title } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { IconArrowLeft } from "@tabler/icons-react";
import { useEffect, useRef, useState } from "react";
import { ApiError } from "../../api/errors";
import { Refusal } from "../../components/Asked";
import { SchemaFields } from "../../components/form/SchemaFields";
import { messageOf } from "../../components/form/useSchemaForm";
import { type Advice, useAdvice, useEntry } from "../../hooks/architect";
import { useGuests, useStorages } from "../../hooks/resources";
import { useRequestSchema } from "../../hooks/schema";
import {
  asField,
  type Faults,
  type FieldGroup,
  faultsOf,
  given,
  type RequestSchema,
  type Values,
} from "../../logic/schema";
import { freeName, sizeText, wish } from "../../logic/service";
import { AdviceView } from "./AdviceView";
import { LaunchBar } from "./LaunchBar";
import { groups, main } from "./serviceFields";

const OPERATION = { method: "POST", path: "/architect/launch" } as const;
const FIELDS = [...main, ...groups([]).flatMap((group) => group.fields)];

interface Props {
  initial: Values;
  onValues: (values: Values) => void;
  onBack: () => void;
  onLaunched: (upid: string, values: Values) => void;
}

export function ServiceDesk(props: Props) {
  const { schema, error } = useRequestSchema(OPERATION);
  if (error !== null) {
    return <Refusal error={error} />;
  }
  return schema === undefined ? <Loader aria-label="Loading" /> : <Desk {...props} schema={schema} />;
}

function Desk({ initial, onValues, onBack, onLaunched, schema }: Props & { schema: RequestSchema }) {
  const [values, setValues] = useState<Values>(initial);
  const [asked] = useDebouncedValue(values, 250);
  const taken = new Set(useGuests().data?.map((guest) => guest.name ?? ""));
  const faults: Faults = {
    ...faultsOf({ ...schema, required: [] }, FIELDS, asked),
    ...(taken.has(asked.name ?? "") && { name: "A guest is called so already" }),
  };
  const name = asked.name || freeName(asked.service ?? "guest", taken);
  const advice = useAdvice(Object.keys(faults).length === 0 ? wish({ ...asked, name }) : undefined);
  const entry = useEntry(values.service);
  const first = withAdvised(name, advice.data);
  const refused = advice.error instanceof ApiError ? advice.error.errors : {};
  const errors: Faults = { ...refused, ...faults };
  const message = advice.error === null ? undefined : messageOf(refused, FIELDS, advice.error.message);
  const keep = useRef(onValues);
  keep.current = onValues;
  useEffect(() => keep.current(given(asked) as Values), [asked]);
  const change = (name: string, value: string) => setValues((before) => ({ ...before, [name]: value }));
  const list = { schema: { ...schema, required: [] }, values, errors, onChange: change, columns: 2 };

  return (
    <Grid gap="lg">
      <Grid.Col span={{ base: 12, lg: 5 }}>
        <Paper withBorder p="md" component="section" aria-labelledby="service">
          <Stack>
            <Group justify="space-between">
              <Title order={2} size="h3" id="service">
                {entry.data?.title ?? values.service ?? "Your service"}
              </Title>
              <Button variant="subtle" size="compact-sm" leftSection={<IconArrowLeft size={14} />} onClick={onBack}>
                Choose another
              </Button>
            </Group>
            <SchemaFields {...list} fields={first} />
            <Groups list={list} opened={values.service === undefined} />
          </Stack>
        </Paper>
      </Grid.Col>
      <Grid.Col span={{ base: 12, lg: 7 }}>
        <Stack aria-busy={advice.isFetching}>
          {message !== undefined && <Refusal error={new Error(message)} />}
          {message === undefined && Object.keys(errors).length > 0 && (
            <Refusal error={new Error("Mend what is marked in the form to get advice.")} />
          )}
          {advice.data !== undefined && message === undefined && Object.keys(errors).length === 0 && (
            <>
              <LaunchBar
                advice={advice.data}
                values={values}
                upstream={entry.data?.upstream}
                stale={asked !== values || advice.isPlaceholderData}
                onLaunched={(upid) => onLaunched(upid, given(values) as Values)}
              />
              <AdviceView advice={advice.data} onAnswer={change} />
            </>
          )}
          {advice.isPending && advice.fetchStatus !== "idle" && <Loader aria-label="Asking the architect" />}
        </Stack>
      </Grid.Col>
    </Grid>
  );
}

/** The first fields, each empty one with what it gets by itself. */
function withAdvised(name: string, advice: Advice | undefined) {
  const size = advice?.sizing;
  const advised: Readonly<Record<string, string>> = {
    name,
    ...(size && { cores: String(size.cores), memory: sizeText(size.memory), disk: sizeText(size.disk) }),
  };
  return main.map((field) => ({ ...field, placeholder: advised[field.name] ?? field.placeholder ?? "" }));
}

type FieldList = Omit<Parameters<typeof SchemaFields>[0], "fields">;

function Groups({ list, opened }: { list: FieldList; opened: boolean }) {
  const rows = useStorages().data?.filter((row) => /\b(rootdir|images)\b/.test(row.content));
  const all = groups([...new Set(rows?.map((row) => row.storage))]);
  const faulty = (group: FieldGroup) =>
    group.fields.map(asField).some((field) => list.errors?.[field.name] !== undefined);
  const [shown, setShown] = useState<string[]>(opened ? ["0"] : []);
  const open = [...new Set([...shown, ...all.flatMap((group, index) => (faulty(group) ? [String(index)] : []))])];
  return (
    <Accordion multiple variant="contained" value={open} onChange={setShown} order={3}>
      {all.map((group, index) => (
        <Accordion.Item key={group.title} value={String(index)}>
          <Accordion.Control>{group.title}</Accordion.Control>
          <Accordion.Panel>
            <SchemaFields {...list} fields={group.fields} />
          </Accordion.Panel>
        </Accordion.Item>
      ))}
    </Accordion>
  );
}
