/** A plan: the services that this host shall run, as a text; what it comes to, and what applying it changes. */
import { Alert, Anchor, Button, FileButton, Grid, Group, Loader, NumberInput, Stack, Text, Title } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useSearch } from "@tanstack/react-router";
import { lazy, Suspense, useMemo, useState } from "react";
import { ApiError } from "../../api/errors";
import { Refusal } from "../../components/Asked";
import { useCatalog, useOutlook, usePlanSchema } from "../../hooks/architect";
import { useDraft } from "../../hooks/drafts";
import { useGuests } from "../../hooks/resources";
import { complete, examplePlan, faults, lineErrors, planOf } from "../../logic/planText";
import { ArchitectFrame } from "./ArchitectFrame";
import { KnownPlans } from "./KnownPlans";
import { OutlookView } from "./OutlookView";

const YamlEditor = lazy(() => import("../../components/YamlEditor"));

export interface PlanSearch {
  readonly name?: string;
  readonly service?: string;
  readonly instances?: number;
}

export function PlanPage() {
  const begun = useSearch({ from: "/architect/plan" });
  const first = begun.name === undefined ? "" : planOf(begun.name, begun.service ?? "", begun.instances ?? 1);
  const [text, setText] = useDraft(`plan ${first}`, first);
  const [copies, setCopies] = useState<string | number>("");
  const [asked] = useDebouncedValue(text, 500);
  const count = copies === "" ? undefined : Number(copies);
  const outlook = useOutlook(asked, count);
  const refused = outlook.error instanceof ApiError ? lineErrors(outlook.error.errors) : [];
  return (
    <ArchitectFrame
      title="Plan"
      about="A homelab.yaml lists the services that this host shall run. You see what each becomes and what would change, before you apply it."
    >
      <Grid gap="lg">
        <Grid.Col span={{ base: 12, lg: 6 }}>
          <Stack>
            <PlanText text={text} onChange={setText} refused={outlook.isFetching && text !== asked ? [] : refused} />
            <Group align="flex-end">
              <FileButton accept=".yaml,.yml,text/yaml" onChange={(file) => void file?.text().then(setText)}>
                {(props) => (
                  <Button variant="default" {...props}>
                    Open a file
                  </Button>
                )}
              </FileButton>
              <NumberInput
                label="Separate copies of it"
                min={1}
                max={100}
                hideControls
                w="12rem"
                value={copies}
                onChange={setCopies}
              />
            </Group>
          </Stack>
        </Grid.Col>
        <Grid.Col span={{ base: 12, lg: 6 }}>
          <Stack>
            {text.trim() === "" && <Beginning onBegin={setText} />}
            {outlook.error !== null && <Refused message={outlook.error.message} lines={refused} />}
            {outlook.data !== undefined && outlook.error === null && asked.trim() !== "" && (
              <OutlookView
                looks={outlook.data}
                text={text}
                copies={count}
                stale={text !== asked || outlook.isPlaceholderData}
              />
            )}
            {outlook.isLoading && <Loader aria-label="Asking the architect" />}
          </Stack>
        </Grid.Col>
      </Grid>
      <KnownPlans />
    </ArchitectFrame>
  );
}

const NONE = {} as const;

interface TextProps {
  text: string;
  onChange: (text: string) => void;
  refused: readonly { line: number; message: string }[];
}

function PlanText({ text, onChange, refused }: TextProps) {
  const schema = usePlanSchema().data ?? NONE;
  const catalog = useCatalog("").data;
  const known = useMemo(() => {
    const names = [...text.matchAll(/^\s*-\s+name:\s*([\w.-]+)/gm)].map((found) => found[1] ?? "");
    return { service: catalog?.map((row) => row.name) ?? [], after: names };
  }, [catalog, text]);
  const marks = useMemo(() => {
    const own = faults(text, schema);
    const lines = new Set(own.map((fault) => fault.line));
    return [...own, ...refused.filter((fault) => !lines.has(fault.line))];
  }, [text, schema, refused]);
  return (
    <Suspense fallback={<Loader aria-label="Loading the editor" />}>
      <YamlEditor
        label="The plan, in YAML"
        value={text}
        onChange={onChange}
        marks={marks}
        offers={(whole, line, column) => complete(whole, line, column, schema, known)}
      />
      <Text size="xs" c="dimmed">
        Ctrl+Space offers what may stand there; Escape, then Tab leaves the editor.
      </Text>
    </Suspense>
  );
}

function Refused({ message, lines }: { message: string; lines: readonly { line: number; message: string }[] }) {
  if (lines.length === 0) {
    return <Refusal error={new Error(message)} />;
  }
  return (
    <Alert color="red" role="alert" title="The plan is not right yet">
      {lines.map((one) => (
        <Text key={`${one.line} ${one.message}`} size="sm">
          {one.line > 0 && `Line ${one.line}: `}
          {one.message}
        </Text>
      ))}
    </Alert>
  );
}

function Beginning({ onBegin }: { onBegin: (text: string) => void }) {
  const taken = new Set(useGuests().data?.map((guest) => guest.name ?? ""));
  return (
    <Stack align="flex-start">
      <Title order={2} size="h3">
        Nothing is planned yet
      </Title>
      <Text>Paste a homelab.yaml, open a file, or begin with two services.</Text>
      <Group>
        <Button onClick={() => onBegin(examplePlan(taken))}>Begin with an example</Button>
        <Anchor href="/api2/json/architect/plan/schema" target="_blank" rel="noopener">
          The schema
        </Anchor>
      </Group>
    </Stack>
  );
}
