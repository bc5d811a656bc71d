/** Backups of all guests, the jobs that make and prove them, and retention: each at /backups/$tab. */
import { Center, Loader, ScrollArea, Stack, Tabs, Text, Title } from "@mantine/core";
import { useNavigate, useParams } from "@tanstack/react-router";
import { useAnyNode } from "../../hooks/nodes";
import { BackupList } from "./BackupList";
import { Jobs } from "./Jobs";
import { Proofs } from "./Proofs";
import { Prune } from "./Prune";

const TABS = [
  { name: "all", label: "Backups", Content: BackupList },
  { name: "jobs", label: "Jobs", Content: Jobs },
  { name: "proofs", label: "Verification and tests", Content: Proofs },
  { name: "prune", label: "Prune", Content: Prune },
] as const;

export function BackupsPage() {
  const { tab = "all" } = useParams({ strict: false });
  const navigate = useNavigate();
  const node = useAnyNode();
  const shown = TABS.find((one) => one.name === tab);
  return (
    <Stack>
      <Title order={1}>Backups</Title>
      <Tabs
        value={shown?.name ?? null}
        keepMounted={false}
        activateTabWithKeyboard={false}
        onChange={(name) => void navigate({ to: `/backups/${name}` })}
      >
        <ScrollArea type="auto" offsetScrollbars="x" scrollbarSize={6}>
          <Tabs.List aria-label="Parts of backups" style={{ flexWrap: "nowrap" }}>
            {TABS.map((one) => (
              <Tabs.Tab key={one.name} value={one.name}>
                {one.label}
              </Tabs.Tab>
            ))}
          </Tabs.List>
        </ScrollArea>
        {shown === undefined ? (
          <Text pt="md">There is nothing at this address.</Text>
        ) : (
          <Tabs.Panel value={shown.name} pt="md">
            {node === undefined ? <Waiting /> : <shown.Content node={node} />}
          </Tabs.Panel>
        )}
      </Tabs>
    </Stack>
  );
}

function Waiting() {
  return (
    <Center p="xl">
      <Loader aria-label="Loading" />
    </Center>
  );
}
