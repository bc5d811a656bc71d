/** The other steps of a new VM. */
import { Alert, Stack, Text } from "@mantine/core";
import { SchemaFields } from "../../components/form/SchemaFields";
import { DiskForm } from "../../components/properties/DiskForm";
import { IndexedForms, optionForm, type StepForm } from "../../components/wizard/IndexedForms";
import { useCpuModels, useDaemon, usePools } from "../../hooks/creating";
import { indexed, systemDisk } from "../../logic/creating";

export function VmGeneral(form: StepForm) {
  const pools = usePools().data ?? [];
  return (
    <SchemaFields
      {...form}
      columns={2}
      fields={[
        "vmid",
        { name: "name", help: "Its name, also in DNS" },
        { name: "tags", options: [], many: true, open: true, help: "Enter ends one" },
        { name: "pool", options: pools.map((row) => row.poolid) },
        { name: "onboot", label: "Start with the host" },
        { name: "description", label: "Notes", lines: 1 },
      ]}
    />
  );
}

/** `scsi1` is the first after the system's own. */
function nextDisk(values: StepForm["values"]): string {
  for (let index = 1; ; index += 1) {
    if (!values[`scsi${index}`]) {
      return `scsi${index}`;
    }
  }
}

export function VmDisks({ storage, ...form }: StepForm & { storage: string }) {
  const { values, errors } = form;
  const system = systemDisk(values);
  const refused = [errors.disk, errors[system], errors.efidisk0, errors.tpmstate0].filter(Boolean).join("; ");
  return (
    <Stack>
      {values.source === "image" && (
        <Text size="sm">The disk begins as the image and grows to this size, unless the image is larger.</Text>
      )}
      <DiskForm
        {...optionForm(form, system)}
        brief
        value={values.disk ?? ""}
        error={refused || undefined}
        onChange={(value) => form.onChange("disk", value)}
      />
      <IndexedForms
        form={form}
        names={indexed(values, "scsi")}
        more={["Add a disk", nextDisk(values), `${storage}:16,discard=on`]}
        render={(option) => <DiskForm {...option} />}
      />
    </Stack>
  );
}

export function VmResources(form: StepForm) {
  const models = useCpuModels(form.node).data ?? [];
  const host = useDaemon().data;
  return (
    <Stack>
      {host?.accelerator === "tcg" && (
        <Alert color="yellow" role="status">
          The VM will be emulated, which is many times slower: {host.emulation ?? "this host has no KVM"}.
        </Alert>
      )}
      <SchemaFields
        {...form}
        columns={2}
        fields={[
          "cores",
          { name: "memory", label: "Memory in MiB" },
          { name: "sockets", placeholder: "1" },
          { name: "balloon", label: "Least memory in MiB", help: "The host may take back what is above; 0 is never" },
          { name: "cpu", label: "CPU model", options: models.map((row) => row.name), open: true },
          { name: "cpulimit", label: "CPU limit", help: "Processors' worth of time at most; 0 is none" },
          { name: "cpuunits", label: "CPU weight", placeholder: "100", help: "Its share when all want the CPU" },
        ]}
      />
    </Stack>
  );
}

export function CloudNetwork(form: StepForm) {
  return (
    <SchemaFields
      {...form}
      columns={2}
      fields={[
        {
          name: "ipconfig0",
          label: "Addresses of net0, by cloud-init",
          parts: [
            { name: "ip", label: "IPv4", help: "dhcp or ADDRESS/PREFIX", options: ["dhcp"], open: true },
            { name: "gw", label: "IPv4 gateway" },
            { name: "ip6", label: "IPv6", help: "auto, dhcp or ADDRESS/PREFIX", options: ["auto", "dhcp"], open: true },
            { name: "gw6", label: "IPv6 gateway" },
          ],
        },
        { name: "nameserver", label: "DNS servers", placeholder: "the host's" },
        { name: "searchdomain", label: "DNS search domain", placeholder: "the host's" },
      ]}
    />
  );
}
