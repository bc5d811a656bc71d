/** Send a file of this computer's to a storage. */
import { Alert, Button, FileInput, Group, Modal, Progress, Select, Stack, Text, TextInput } from "@mantine/core";
import { IconFile } from "@tabler/icons-react";
import { type FormEvent, useState } from "react";
import { Copied } from "../../components/CopyAs";
import { useContent } from "../../hooks/storage";
import { useUpload } from "../../hooks/upload";
import { path } from "../../logic/actions";
import type { Faults } from "../../logic/schema";
import { uploadCurl, uploadFields } from "../../logic/storages";
import { bytes, percent, share } from "../../logic/units";
import { contentLabel, contentOf } from "../../logic/volumes";
import type { FileDialogProps } from "./DownloadDialog";

/** The likeliest first. */
const FILES = ["iso", "vztmpl", "import"];
const ALGORITHMS = ["sha256", "sha512", "sha384", "sha224", "sha1", "md5"];

interface Chosen {
  readonly file: File | null;
  readonly name: string;
  readonly content: string;
  readonly algorithm: string;
  readonly checksum: string;
}

export function UploadDialog({ node, storage, kinds, kind, onClose }: FileDialogProps) {
  const sending = useUpload(node, storage);
  const [chosen, setChosen] = useState<Chosen>({
    file: null,
    name: "",
    content: kinds.includes(kind) ? kind : (FILES.find((one) => kinds.includes(one)) ?? "iso"),
    algorithm: "sha256",
    checksum: "",
  });
  const { file, checksum } = chosen;
  // The host refuses before it has read the file, which a browser shows as a connection that broke.
  const volid = `${storage}:${chosen.content}/${chosen.name}`;
  const taken = useContent(node, storage).data?.some((volume) => volume.volid === volid) ?? false;
  const errors = taken ? { ...sending.errors, filename: `${chosen.name} is there already` } : sending.errors;

  async function submit(event: FormEvent): Promise<void> {
    event.preventDefault();
    // A wizard that opens the dialog is, for React, around it.
    event.stopPropagation();
    if (file !== null && (await sending.send({ ...chosen, file, checksum: checksum.trim() }))) {
      onClose();
    }
  }

  const leave = () => {
    sending.stop();
    onClose();
  };
  return (
    <Modal opened onClose={leave} title={`Upload to ${storage}`} size="lg" closeOnClickOutside={!sending.busy}>
      <form onSubmit={submit}>
        <Stack>
          {sending.failure !== undefined && (
            <Alert color="red" role="alert" className="lines">
              {sending.failure}
            </Alert>
          )}
          <Choice chosen={chosen} kinds={kinds} errors={errors} onChange={setChosen} />
          <Copied
            label="API call"
            text={uploadCurl(
              location.origin,
              path`/nodes/${node}/storage/${storage}/upload`,
              uploadFields({ ...chosen, checksum: checksum.trim() }),
              chosen.name || "FILE",
            )}
          />
          {sending.busy && <Sent sent={sending.sent} total={sending.total} checking={sending.checking ?? false} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={sending.busy && !sending.checking ? sending.stop : leave}>
              {sending.checking ? "Close" : sending.busy ? "Stop" : "Cancel"}
            </Button>
            <Button type="submit" disabled={file === null || (taken && !sending.busy)} loading={sending.busy}>
              Upload
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}

interface ChoiceProps {
  chosen: Chosen;
  kinds: readonly string[];
  errors: Faults;
  onChange: (chosen: Chosen) => void;
}

function Choice({ chosen, kinds, errors, onChange }: ChoiceProps) {
  const change = (part: Partial<Chosen>) => onChange({ ...chosen, ...part });
  function choose(file: File | null): void {
    const guess = file === null ? undefined : contentOf(file.name);
    const content = guess !== undefined && kinds.includes(guess) ? guess : chosen.content;
    change({ file, name: file?.name ?? "", content });
  }
  return (
    <>
      <FileInput
        label="File"
        required
        clearable
        clearButtonProps={{ "aria-label": "Clear the file" }}
        placeholder="Choose a file"
        leftSection={<IconFile size={16} aria-hidden />}
        value={chosen.file}
        onChange={choose}
      />
      <Select
        label="What it is"
        allowDeselect={false}
        data={kinds.map((value) => ({ value, label: contentLabel(value) }))}
        value={chosen.content}
        error={errors.content ?? false}
        onChange={(value) => value !== null && change({ content: value })}
      />
      <TextInput
        label="File name"
        required
        value={chosen.name}
        error={errors.filename ?? false}
        onChange={(event) => change({ name: event.currentTarget.value })}
      />
      <Group grow align="flex-start">
        <Select
          label="Checksum by"
          allowDeselect={false}
          data={ALGORITHMS}
          value={chosen.algorithm}
          error={errors["checksum-algorithm"] ?? false}
          onChange={(value) => value !== null && change({ algorithm: value })}
        />
        <TextInput
          label="Checksum"
          value={chosen.checksum}
          error={errors.checksum ?? false}
          onChange={(event) => change({ checksum: event.currentTarget.value })}
        />
      </Group>
    </>
  );
}

function Sent({ sent, total, checking }: { sent: number; total: number; checking: boolean }) {
  const part = share(sent, total);
  return (
    <div>
      <Progress value={part * 100} aria-label="Sent" aria-valuetext={percent(part)} />
      <Text size="sm" mt={4} className="figures">
        {bytes(sent)} of {bytes(total)} ({percent(part)}){checking && ": the host looks at it"}
      </Text>
    </div>
  );
}
