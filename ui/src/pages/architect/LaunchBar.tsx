/** The verdict in a line, the command, and the button that makes it so. */
import { Alert, Anchor, Badge, Code, Group, Paper, Stack, Text, Title } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { ActionButton } from "../../components/ActionButton";
import { RowLink } from "../../components/RowLink";
import type { Advice } from "../../hooks/architect";
import type { Values } from "../../logic/schema";
import { imageToLaunch, launchAction } from "../../logic/service";
import { Upstream } from "./Upstream";

const KINDS = { ct: "Container", vm: "VM" } as const;

interface Props {
  advice: Advice;
  values: Values;
  upstream: string | undefined;
  /** Whether the advice is of what was typed before. */
  stale: boolean;
  onLaunched: (upid: string) => void;
}

export function LaunchBar({ advice, values, upstream, stale, onLaunched }: Props) {
  const image = imageToLaunch(advice.request.parameters, advice.warnings);
  const action = launchAction({ ...values, ...(image ? { image } : {}) }, advice.name, advice.command);
  const many = Number(values.instances ?? 1) > 1;
  return (
    <Paper withBorder p="md" component="section" aria-labelledby="verdict">
      <Stack gap="sm">
        <Group justify="space-between" align="flex-start">
          <div>
            <Title order={2} id="verdict">
              {KINDS[advice.kind]}
            </Title>
            <Text role="status">{advice.summary}</Text>
          </div>
          <Badge variant="default" tt="none" size="lg">
            {advice.confidence} confidence
          </Badge>
        </Group>
        <Code block className="wrapped">
          {action.command}
        </Code>
        {many ? (
          <Several advice={advice} values={values} />
        ) : image === undefined ? (
          <Bring upstream={upstream} title={advice.title} />
        ) : (
          <Group>
            <ActionButton
              action={action}
              variant="filled"
              disabled={stale}
              onDone={(done) => done.task && onLaunched(done.task.upid)}
            />
            <Text size="sm" c="dimmed">
              {advice.installs
                ? "Makes the guest, starts it and installs the service."
                : "Makes the guest and starts it. You install the service in it."}
            </Text>
          </Group>
        )}
        {!advice.installs && image !== undefined && upstream && <Upstream address={upstream} />}
      </Stack>
    </Paper>
  );
}

function Bring({ upstream, title }: { upstream: string | undefined; title: string }) {
  return (
    <Alert color="yellow" title={`${title} is installed from a medium of its own, which is not here`}>
      <Stack gap="xs" align="flex-start">
        <Text size="sm">Upload the medium to a storage, then make the VM with it.</Text>
        {upstream && <Upstream address={upstream} />}
        <Anchor component={Link} to="/create/vm">
          Create VM
        </Anchor>
      </Stack>
    </Alert>
  );
}

function Several({ advice, values }: { advice: Advice; values: Values }) {
  const { instances } = advice.sizing;
  const plan = { name: advice.name, service: values.service ?? "", instances: String(instances) };
  return (
    <Alert color="blue" title={`${instances} guests are a plan's`}>
      <Anchor component={RowLink} to={`/architect/plan?${new URLSearchParams(plan)}`}>
        Make a plan of it
      </Anchor>
    </Alert>
  );
}
