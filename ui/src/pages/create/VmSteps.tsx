/** The other steps of a new VM. */
import { Alert, Button, Group, Stack, Text } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { SchemaFields } from "../../components/form/SchemaFields";
import { DiskForm } from "../../components/properties/DiskForm";
import type { StepForm } from "../../components/wizard/Interfaces";
import { useCpuModels, useDaemon, usePools } from "../../hooks/creating";
import { indexed, systemDisk } from "../../logic/creating";
import { fieldSchema } from "../../logic/schema";

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

export function VmDisks({ node, schema, values, errors, onChange, storage }: StepForm & { storage: string }) {
  const system = systemDisk(values);
  const refused = [errors.disk, errors[system], errors.efidisk0, errors.tpmstate0].filter(Boolean).join("; ");
  return (
    <Stack>
      {values.source === "image" && (
        <Text size="sm">The disk begins as the image and grows to this size, unless the image is larger.</Text>
      )}
      <DiskForm
        node={node}
        name={system}
        brief
        schema={fieldSchema(schema, system)}
        value={values.disk ?? ""}
        error={refused || undefined}
        onChange={(value) => onChange("disk", value)}
      />
      {indexed(values, "scsi").map((name) => (
        <Stack key={name} gap="xs">
          <DiskForm
            node={node}
            name={name}
            schema={fieldSchema(schema, name)}
            value={values[name] ?? ""}
            error={errors[name]}
            onChange={(value) => onChange(name, value)}
          />
          <Group justify="flex-end">
            <Button variant="default" size="compact-sm" onClick={() => onChange(name, "")}>
              Remove {name}
            </Button>
          </Group>
        </Stack>
      ))}
      <Button
        variant="default"
        leftSection={<IconPlus size={16} />}
        w="fit-content"
        onClick={() => onChange(nextDisk(values), `${storage}:16,discard=on`)}
      >
        Add a disk
      </Button>
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
