/** Send a file of this computer's to a storage. */
import { Alert, Button, FileInput, Group, Modal, Progress, Select, Stack, Text, TextInput } from "@mantine/core";
import { IconFile } from "@tabler/icons-react";
import { type FormEvent, useState } from "react";
import { useUpload } from "../../hooks/upload";
import { bytes, percent, share } from "../../logic/units";
import { contentLabel, contentOf } from "../../logic/volumes";
import type { FileDialogProps } from "./DownloadDialog";

const ALGORITHMS = ["sha256", "sha512", "sha384", "sha224", "sha1", "md5"];

export function UploadDialog({ node, storage, kinds, kind, onClose }: FileDialogProps) {
  const sending = useUpload(node, storage);
  const [file, setFile] = useState<File | null>(null);
  const [name, setName] = useState("");
  const [content, setContent] = useState(kinds.includes(kind) ? kind : (kinds[0] ?? "iso"));
  const [algorithm, setAlgorithm] = useState("sha256");
  const [checksum, setChecksum] = useState("");

  function choose(chosen: File | null): void {
    const guess = chosen === null ? undefined : contentOf(chosen.name);
    setFile(chosen);
    setName(chosen?.name ?? "");
    if (guess !== undefined && kinds.includes(guess)) {
      setContent(guess);
    }
  }

  async function submit(event: FormEvent): Promise<void> {
    event.preventDefault();
    if (file !== null && (await sending.send({ file, name, content, checksum: checksum.trim(), algorithm }))) {
      onClose();
    }
  }

  const leave = () => {
    sending.stop();
    onClose();
  };
  const { errors } = sending;
  return (
    <Modal opened onClose={leave} title={`Upload to ${storage}`} size="lg" closeOnClickOutside={!sending.busy}>
      <form onSubmit={submit}>
        <Stack>
          {sending.failure !== undefined && (
            <Alert color="red" role="alert" className="lines">
              {sending.failure}
            </Alert>
          )}
          <FileInput
            label="File"
            required
            clearable
            placeholder="Choose a file"
            leftSection={<IconFile size={16} aria-hidden />}
            value={file}
            onChange={choose}
          />
          <Select
            label="What it is"
            allowDeselect={false}
            data={kinds.map((value) => ({ value, label: contentLabel(value) }))}
            value={content}
            error={errors.content ?? false}
            onChange={(value) => setContent(value ?? content)}
          />
          <TextInput
            label="File name"
            required
            value={name}
            error={errors.filename ?? false}
            onChange={(event) => setName(event.currentTarget.value)}
          />
          <Group grow align="flex-start">
            <Select
              label="Checksum by"
              allowDeselect={false}
              data={ALGORITHMS}
              value={algorithm}
              error={errors["checksum-algorithm"] ?? false}
              onChange={(value) => setAlgorithm(value ?? algorithm)}
            />
            <TextInput
              label="Checksum"
              value={checksum}
              error={errors.checksum ?? false}
              onChange={(event) => setChecksum(event.currentTarget.value)}
            />
          </Group>
          {sending.busy && <Sent sent={sending.sent} total={sending.total} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={sending.busy ? sending.stop : leave}>
              {sending.busy ? "Stop" : "Cancel"}
            </Button>
            <Button type="submit" disabled={file === null} loading={sending.busy}>
              Upload
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}

function Sent({ sent, total }: { sent: number; total: number }) {
  const part = share(sent, total);
  return (
    <div>
      <Progress value={part * 100} aria-label="Sent" aria-valuetext={percent(part)} />
      <Text size="sm" mt={4} className="figures">
        {bytes(sent)} of {bytes(total)} ({percent(part)})
      </Text>
    </div>
  );
}
