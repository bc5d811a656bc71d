/** What a VM's guest agent tells of its system and of its file systems. */
import { Paper, Stack, Title } from "@mantine/core";
import { told } from "../../api/errors";
import { UseBar } from "../../components/UseBar";
import { type FileSystem, useAgent } from "../../hooks/agent";
import type { GuestRow } from "../../hooks/resources";
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
  const sized = data.filesystems.filter((one) => one["total-bytes"] !== undefined);
  return (
    <>
      <Facts title="As its agent tells">
        <Fact label="System">{data.os["pretty-name"] ?? data.os.name ?? "not told"}</Fact>
        <Fact label="Host name">{data.hostname}</Fact>
        {data.os["kernel-release"] !== undefined && <Fact label="Kernel">{data.os["kernel-release"]}</Fact>}
      </Facts>
      {sized.length > 0 && <FileSystems rows={sized} />}
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
        {rows.map((row) => (
          <UseBar
            key={row.mountpoint}
            label={row.mountpoint}
            part={share(row["used-bytes"], row["total-bytes"])}
            words={`${bytes(row["used-bytes"])} of ${bytes(row["total-bytes"])}`}
          />
        ))}
      </Stack>
    </Paper>
  );
}
