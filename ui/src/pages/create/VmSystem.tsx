/** Where a new VM's system comes from: an image with cloud-init, a CD, or nothing yet. */
import { Alert, Button, Fieldset, Group, Radio, Select, Stack, Switch } from "@mantine/core";
import { IconDownload, IconUpload } from "@tabler/icons-react";
import { useEffect, useState } from "react";
import { SchemaFields } from "../../components/form/SchemaFields";
import { ImageChoice } from "../../components/wizard/ImageChoice";
import type { StepForm } from "../../components/wizard/IndexedForms";
import { useFileStorage, useImageStorage } from "../../components/wizard/useHost";
import { useImages } from "../../hooks/images";
import { useIsos } from "../../hooks/storage";
import { systemValues } from "../../logic/creating";
import { bytes } from "../../logic/units";
import { DownloadDialog } from "../storage/DownloadDialog";
import { UploadDialog } from "../storage/UploadDialog";

const SYSTEMS = [
  { value: "l26", label: "Linux" },
  { value: "l24", label: "Linux 2.4" },
  { value: "win11", label: "Windows 11, Server 2022 and later" },
  { value: "win10", label: "Windows 10, Server 2016, 2019" },
  { value: "win8", label: "Windows 8, Server 2012" },
  { value: "win7", label: "Windows 7, Server 2008 R2" },
  { value: "wvista", label: "Windows Vista" },
  { value: "w2k8", label: "Windows Server 2008" },
  { value: "w2k3", label: "Windows Server 2003" },
  { value: "wxp", label: "Windows XP" },
  { value: "w2k", label: "Windows 2000" },
  { value: "solaris", label: "Solaris" },
  { value: "other", label: "Other" },
];

export function VmSystem(form: StepForm) {
  const { values, onChange } = form;
  function changeSystem(_: string, ostype: string): void {
    for (const [name, value] of Object.entries(systemValues(ostype, values))) {
      onChange(name, value);
    }
  }
  return (
    <Stack>
      <Radio.Group
        label="The system comes from"
        value={values.source ?? "image"}
        onChange={(source) => onChange("source", source)}
      >
        <Stack gap="xs" mt="xs">
          <Radio value="image" label="An image" description="Installed already; cloud-init sets its user and network" />
          <Radio value="iso" label="A CD" description="An ISO image to install from" />
          <Radio value="none" label="Nothing yet" description="An empty disk" />
        </Stack>
      </Radio.Group>
      {values.source === "image" && <FromImage {...form} />}
      {values.source === "iso" && <FromCd {...form} />}
      <SchemaFields
        {...form}
        onChange={changeSystem}
        columns={2}
        fields={[{ name: "ostype", label: "Kind of system", options: SYSTEMS, required: true }]}
      />
      <Firmware {...form} />
    </Stack>
  );
}

function FromImage(form: StepForm) {
  const { values, errors, onChange } = form;
  const chosen = useImages().data?.find((row) => row.volid === values.image);
  return (
    <>
      <ImageChoice
        kind="qemu"
        label="Image"
        storage={useImageStorage("qemu")}
        value={values.image ?? ""}
        error={errors.image}
        onChange={(volid) => onChange("image", volid)}
      />
      {chosen !== undefined && chosen.cloudinit !== 1 && (
        <Alert color="yellow" role="status">
          Nothing says that cloud-init is in this image: without it, the user, the key and the network below do nothing.
        </Alert>
      )}
      <Fieldset legend="Who logs in">
        <SchemaFields
          {...form}
          columns={2}
          fields={[
            { name: "ciuser", label: "User", placeholder: "the image's own" },
            { name: "cipassword", label: "Password", secret: true },
            { name: "sshkeys", label: "SSH public keys", help: "One a line", lines: 1 },
          ]}
        />
      </Fieldset>
    </>
  );
}

function FromCd({ node, values, errors, onChange }: StepForm) {
  const isos = useIsos(node);
  const rows = isos.data ?? [];
  const first = rows[0]?.volid;
  useEffect(() => {
    if (!values.iso && first !== undefined) {
      onChange("iso", first);
    }
  }, [values.iso, first, onChange]);
  return (
    <>
      {isos.isSuccess && rows.length === 0 && (
        <Alert color="yellow" role="status">
          No storage has an ISO image yet. Bring one in below.
        </Alert>
      )}
      <Select
        label="ISO image"
        required
        searchable
        allowDeselect={false}
        data={rows.map((row) => ({ value: row.volid, label: `${row.volid} (${bytes(row.size)})` }))}
        value={values.iso || null}
        error={errors.iso ?? errors.ide2 ?? false}
        onChange={(volid) => onChange("iso", volid ?? "")}
      />
      <BringIso node={node} />
    </>
  );
}

function BringIso({ node }: { node: string }) {
  const storage = useFileStorage("iso");
  const [dialog, setDialog] = useState<"upload" | "download">();
  if (storage === "") {
    return null;
  }
  const shared = { node, storage, kinds: ["iso"], kind: "iso", onClose: () => setDialog(undefined) };
  return (
    <Group gap="xs">
      <Button variant="default" leftSection={<IconUpload size={16} />} onClick={() => setDialog("upload")}>
        Upload an ISO image
      </Button>
      <Button variant="default" leftSection={<IconDownload size={16} />} onClick={() => setDialog("download")}>
        Download one by URL
      </Button>
      {dialog === "upload" && <UploadDialog {...shared} />}
      {dialog === "download" && <DownloadDialog {...shared} />}
    </Group>
  );
}

function Firmware({ values, onChange }: StepForm) {
  const one = (name: string, label: string, description: string) => (
    <Switch
      label={label}
      description={description}
      checked={values[name] === "1"}
      onChange={(event) => onChange(name, event.currentTarget.checked ? "1" : "")}
    />
  );
  return (
    <Fieldset legend="Firmware">
      <Stack>
        {one("uefi", "UEFI", "Instead of a BIOS; its variables get a volume of their own")}
        {one("secureboot", "Secure Boot", "UEFI that starts only what is signed")}
        {one("tpm", "TPM 2.0", "What Windows 11 asks for")}
      </Stack>
    </Fieldset>
  );
}
