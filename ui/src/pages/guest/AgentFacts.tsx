/** What a VM's guest agent tells of its system and of its file systems. */
import { Paper, Stack, Title } from "@mantine/core";
import { told } from "../../api/errors";
import { UseBar } from "../../components/UseBar";
import { useAgent } from "../../hooks/agent";
import type { GuestRow } from "../../hooks/resources";
import type { FileSystem } from "../../logic/agentAnswers";
import { bytes, share } from "../../logic/units";
import { Fact, Facts } from "./Facts";

export function AgentFacts({ guest }: { guest: GuestRow }) {
  const { data, error } = useAgent(guest, true);
  if (error !== null) {
    return (
      <Facts title="As its agent tells">
        <Fact label="Agent">{told(error)}</Fact>
      </Facts>
    );
  }
  if (data === undefined) {
    return null;
  }
  return (
    <>
      <Facts title="As its agent tells">
        <Fact label="System">{data.system ?? "not told"}</Fact>
        <Fact label="Host name">{data.hostname ?? "not told"}</Fact>
        {data.kernel !== undefined && <Fact label="Kernel">{data.kernel}</Fact>}
      </Facts>
      {data.filesystems.length > 0 && <FileSystems rows={data.filesystems} />}
    </>
  );
}

function FileSystems({ rows }: { rows: readonly FileSystem[] }) {
  return (
    <Paper component="section" withBorder p="md" miw={0}>
      <Title order={2} size="h4" mb="sm">
        File systems
      </Title>
      <Stack gap="sm">
        {rows.map(({ mountpoint, used, total }) => (
          <UseBar
            key={mountpoint}
            label={mountpoint}
            part={share(used, total)}
            words={`${bytes(used)} of ${bytes(total)}`}
          />
        ))}
      </Stack>
    </Paper>
  );
}
