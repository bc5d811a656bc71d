/** The volumes of a storage by what they are, with what can be done to bring more in. */
import { Button, Group, Loader, SegmentedControl, Stack, Text, TextInput, Title } from "@mantine/core";
import { IconDownload, IconSearch, IconUpload } from "@tabler/icons-react";
import { useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { Refusal } from "../../components/Asked";
import { Needing } from "../../components/Denied";
import { useContent } from "../../hooks/storage";
import { path } from "../../logic/actions";
import { contentLabel } from "../../logic/volumes";
import { CopyVolume } from "./CopyVolume";
import { DownloadDialog } from "./DownloadDialog";
import { UploadDialog } from "./UploadDialog";
import { VolumeTable } from "./VolumeTable";

interface Props {
  node: string;
  storage: string;
  /** What it may hold, by commas. */
  content: string;
  active: boolean;
  disabled: boolean;
}

const FILES = ["iso", "vztmpl", "import"];
const ALL = "all";

export function Contents({ node, storage, content, active, disabled }: Props) {
  const kinds = content.split(",").filter((kind) => kind !== "none");
  const asked = (useSearch({ strict: false }) as { content?: string }).content;
  const [kind, setKind] = useState(asked !== undefined && kinds.includes(asked) ? asked : ALL);
  const [text, setText] = useState("");
  const [dialog, setDialog] = useState<"upload" | "download">();
  const [copied, setCopied] = useState<string>();
  const { data, error, isPending } = useContent(active ? node : undefined, storage);
  const words = text.toLowerCase();
  const rows = useMemo(
    () =>
      (data ?? []).filter(
        (row) =>
          (kind === ALL || row.content === kind) &&
          `${row.volid} ${row.vmid ?? ""} ${row.notes ?? ""}`.toLowerCase().includes(words),
      ),
    [data, kind, words],
  );
  const files = kinds.filter((one) => FILES.includes(one));
  const shared = { node, storage, kinds: files, kind, onClose: () => setDialog(undefined) };
  return (
    <Stack component="section" gap="sm">
      <Group justify="space-between">
        <Title order={2} size="h4">
          Contents
        </Title>
        {files.length > 0 && active && (
          <Group gap="xs">
            <Needing wanted={{ method: "POST", path: path`/nodes/${node}/storage/${storage}/upload` }}>
              <Button variant="default" leftSection={<IconUpload size={16} />} onClick={() => setDialog("upload")}>
                Upload
              </Button>
            </Needing>
            <Needing wanted={{ method: "POST", path: path`/nodes/${node}/storage/${storage}/download-url` }}>
              <Button variant="default" leftSection={<IconDownload size={16} />} onClick={() => setDialog("download")}>
                Download by URL
              </Button>
            </Needing>
          </Group>
        )}
      </Group>
      {active && <Kinds kinds={kinds} kind={kind} onKind={setKind} />}
      {active && (
        <TextInput
          aria-label="Search volumes"
          placeholder="Search by name, guest or notes"
          leftSection={<IconSearch size={16} aria-hidden />}
          value={text}
          onChange={(event) => setText(event.currentTarget.value)}
        />
      )}
      {error !== null && <Refusal error={error} />}
      {!active && (
        <Text>
          {disabled
            ? "What is on it is shown when it is enabled."
            : "It does not answer, so nobody knows what is on it."}
        </Text>
      )}
      {active && isPending && <Loader aria-label="Loading" />}
      {data !== undefined && <VolumeTable node={node} rows={rows} onCopy={setCopied} />}
      {dialog === "upload" && <UploadDialog {...shared} />}
      {dialog === "download" && <DownloadDialog {...shared} />}
      {copied !== undefined && <CopyVolume node={node} volid={copied} onClose={() => setCopied(undefined)} />}
    </Stack>
  );
}

function Kinds({ kinds, kind, onKind }: { kinds: readonly string[]; kind: string; onKind: (kind: string) => void }) {
  if (kinds.length < 2) {
    return null;
  }
  const data = [{ value: ALL, label: "All" }, ...kinds.map((one) => ({ value: one, label: contentLabel(one) }))];
  return (
    <div className="sideways">
      <SegmentedControl aria-label="Content" data={data} value={kind} onChange={onKind} />
    </div>
  );
}
