/** A launch that is under way, and where its service answers once it does. */
import { Alert, Anchor, Button, Group, Loader, Paper, Stack, Text, Title } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { TaskLogView } from "../../components/TaskLogView";
import { useAddressed, useEntry } from "../../hooks/architect";
import { useGuest } from "../../hooks/resources";
import { useTaskLog } from "../../hooks/tasks";
import { launchedVmid, placesOf } from "../../logic/service";
import { outcomeOf } from "../../logic/tasks";

interface Props {
  upid: string;
  service: string | undefined;
  onAgain: () => void;
  onBack: () => void;
}

export function Launched({ upid, service, onAgain, onBack }: Props) {
  const log = useTaskLog(upid);
  const status = log.status?.exitstatus;
  const ended = log.status?.status === "stopped";
  const outcome = ended ? outcomeOf(status) : "running";
  const vmid = launchedVmid(upid, log.lines);
  const named = useGuest(vmid)?.name;
  return (
    <Paper withBorder p="md" component="section" aria-labelledby="launch">
      <Stack>
        <div role="status">
          {outcome === "running" && log.failure === undefined && (
            <Group>
              <Loader size="sm" aria-hidden />
              <Title order={2} size="h3" id="launch">
                Launching {named ?? `guest ${vmid}`}
              </Title>
            </Group>
          )}
          {(outcome === "ok" || outcome === "warning") && <Running vmid={vmid} service={service} />}
        </div>
        {(outcome === "error" || log.failure !== undefined) && (
          <Alert color="red" role="alert" title="It did not work">
            <Title order={2} size="h5" id="launch" className="wrapped">
              {log.failure ?? status}
            </Title>
          </Alert>
        )}
        <TaskLogView lines={log.lines} />
        <Group>
          <Button variant="default" onClick={onAgain}>
            Run something else
          </Button>
          {outcome === "error" && (
            <Button variant="default" onClick={onBack}>
              Change it and try again
            </Button>
          )}
          <Anchor component={Link} to={`/tasks/${encodeURIComponent(upid)}`}>
            The task
          </Anchor>
        </Group>
      </Stack>
    </Paper>
  );
}

function Running({ vmid, service }: { vmid: number; service: string | undefined }) {
  const guests = useAddressed();
  const entry = useEntry(service);
  const guest = guests.data?.find((row) => row.vmid === vmid);
  const address = guest?.addresses.find((one) => !one.includes(":")) ?? guest?.addresses[0];
  const places = address === undefined ? [] : placesOf(entry.data ?? {}, address);
  return (
    <Stack gap="xs" align="flex-start">
      <Title order={2} id="launch">
        {guest?.name ?? vmid} runs
      </Title>
      {places.map((place) =>
        place.url === undefined ? (
          <Text key={place.text}>{place.text}</Text>
        ) : (
          <Button key={place.text} component="a" href={place.url} target="_blank" rel="noopener noreferrer" size="md">
            Open {place.text}
          </Button>
        ),
      )}
      {places.length === 0 && address !== undefined && <Text>Its address is {address}</Text>}
      <Anchor component={Link} to={`/guests/${vmid}/summary`}>
        Show the guest
      </Anchor>
      {entry.data?.notes.map((note) => (
        <Text key={note} size="sm" c="dimmed">
          {note}
        </Text>
      ))}
    </Stack>
  );
}
