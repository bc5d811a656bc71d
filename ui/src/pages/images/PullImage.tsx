/** Fetch an image by its URL, or by its name on an image server. */
import { Text } from "@mantine/core";
import { SchemaForm } from "../../components/SchemaForm";
import { useImageStorage } from "../../components/wizard/useHost";
import { useDaemon } from "../../hooks/creating";
import { useNodeStorages } from "../../hooks/storage";
import { type Action, shellCommand } from "../../logic/actions";
import { given, type Values } from "../../logic/schema";

const KINDS = [
  { value: "lxc", label: "A CT's template" },
  { value: "qemu", label: "A VM's disk image" },
];

function pull(values: Values): Action {
  const { source = "", kind, storage = "", checksum = "", "checksum-algorithm": algorithm = "" } = values;
  const options = [
    ...(kind === "qemu" ? ["--vm"] : []),
    ...(storage === "" ? [] : ["--storage", storage]),
    ...(checksum === "" ? [] : ["--checksum", checksum]),
    ...(algorithm === "" ? [] : ["--checksum-algorithm", algorithm]),
  ];
  return {
    title: `Pull ${source}`,
    method: "POST",
    path: "/bastide/images/pull",
    parameters: given(values),
    command: shellCommand("bastide", "image", "pull", source, ...options),
  };
}

export function PullImage() {
  const usual = useImageStorage("lxc");
  const rows = useNodeStorages(useDaemon().data?.node).data ?? [];
  const storages = rows.filter((row) => /vztmpl|import/.test(row.content)).map((row) => row.storage);
  return (
    <>
      <Text mb="md" maw="70ch">
        A disk image may be qcow2, raw, vmdk, vdi or vhdx, and compressed. A name such as alpine/3.20 is looked up on
        the image servers.
      </Text>
      {rows.length > 0 && (
        <SchemaForm
          operation={{ method: "POST", path: "/bastide/images/pull" }}
          fields={[
            { name: "source", label: "URL, or name on an image server", placeholder: "https://" },
            { name: "kind", label: "What it is", options: KINDS, help: "None chosen: its name tells" },
            { name: "storage", options: storages },
            { name: "checksum-algorithm", label: "Checksum by" },
            { name: "checksum", label: "Checksum", help: "Hexadecimal; the file is refused when it has another" },
          ]}
          initial={{ storage: usual }}
          action={pull}
          submit="Pull"
          columns={2}
        />
      )}
    </>
  );
}
