/** Let the host fetch a file by its URL, which is asked for its name and size first. */
import { Alert, Button, Group, Modal, Stack, Text, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { told } from "../../api/errors";
import { SchemaForm } from "../../components/SchemaForm";
import { askUrl, type UrlMetadata } from "../../hooks/storage";
import { path } from "../../logic/actions";
import { given } from "../../logic/schema";
import { bytes } from "../../logic/units";
import { contentLabel, contentOf } from "../../logic/volumes";

export interface FileDialogProps {
  node: string;
  storage: string;
  /** What files it may hold. */
  kinds: readonly string[];
  /** What is looked at now. */
  kind: string;
  onClose: () => void;
}

export function DownloadDialog(props: FileDialogProps) {
  const { node, storage, onClose } = props;
  const [url, setUrl] = useState("");
  const [found, setFound] = useState<{ url: string; facts: UrlMetadata }>();
  const [failure, setFailure] = useState<string>();
  const [busy, setBusy] = useState(false);

  async function look(event: FormEvent): Promise<void> {
    event.preventDefault();
    // A wizard that opens the dialog is, for React, around it.
    event.stopPropagation();
    setBusy(true);
    setFailure(undefined);
    try {
      setFound({ url, facts: await askUrl(node, url, true) });
    } catch (error) {
      setFailure(told(error));
      setFound({ url, facts: {} });
    } finally {
      setBusy(false);
    }
  }

  return (
    <Modal opened onClose={onClose} title={`Download to ${storage}`} size="lg">
      <Stack>
        <form onSubmit={look}>
          <Group align="flex-end" wrap="nowrap">
            <TextInput
              label="URL"
              required
              flex={1}
              type="url"
              placeholder="https://"
              value={url}
              onChange={(event) => setUrl(event.currentTarget.value)}
            />
            <Button type="submit" variant="default" loading={busy}>
              Look
            </Button>
          </Group>
        </form>
        {failure !== undefined && (
          <Alert color="yellow" role="alert" className="lines">
            {failure}
          </Alert>
        )}
        {found !== undefined && <Fetch key={found.url} {...props} url={found.url} facts={found.facts} />}
      </Stack>
    </Modal>
  );
}

function nameIn(url: string): string {
  return decodeURIComponent(url.split(/[?#]/)[0]?.split("/").at(-1) ?? "");
}

function Fetch({
  node,
  storage,
  kinds,
  kind,
  onClose,
  url,
  facts,
}: FileDialogProps & { url: string; facts: UrlMetadata }) {
  const filename = facts.filename ?? nameIn(url);
  const guess = kinds.includes(kind) ? kind : (contentOf(filename) ?? kinds[0] ?? "iso");
  const options = kinds.map((value) => ({ value, label: contentLabel(value) }));
  return (
    <>
      {facts.size !== undefined && (
        <Text size="sm" role="status">
          It is {bytes(facts.size)} large{facts.mimetype === undefined ? "" : `, of the type ${facts.mimetype}`}.
        </Text>
      )}
      <SchemaForm
        operation={{ method: "POST", path: "/nodes/{node}/storage/{storage}/download-url" }}
        fields={[
          { name: "content", label: "What it is", options },
          { name: "filename", label: "File name" },
          { name: "checksum-algorithm", label: "Checksum by" },
          { name: "checksum", label: "Checksum", help: "Hexadecimal; the file is refused when it has another" },
          {
            title: "More options",
            folded: true,
            fields: [
              { name: "compression", label: "Compressed as", help: "It is stored decompressed" },
              { name: "verify-certificates", label: "Verify the server's certificate" },
            ],
          },
        ]}
        initial={{ content: guess, filename, "verify-certificates": "1" }}
        action={(values) => ({
          title: `Download ${values.filename ?? ""} to ${storage}`,
          method: "POST",
          path: path`/nodes/${node}/storage/${storage}/download-url`,
          parameters: { url, ...given(values) },
        })}
        submit="Download"
        onCancel={onClose}
        onDone={onClose}
      />
    </>
  );
}
