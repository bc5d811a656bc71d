/** The steps of a new CT. */
import { Accordion, Stack } from "@mantine/core";
import { SchemaFields } from "../../components/form/SchemaFields";
import { MountPointForm } from "../../components/properties/MountPointForm";
import { ImageChoice } from "../../components/wizard/ImageChoice";
import { IndexedForms, optionForm, type StepForm } from "../../components/wizard/IndexedForms";
import { useImageStorage } from "../../components/wizard/useHost";
import { usePools } from "../../hooks/creating";
import { indexed, nextIndexed } from "../../logic/creating";
import type { FieldSpec } from "../../logic/schema";

const FEATURES: FieldSpec = {
  name: "features",
  label: "Features",
  parts: [
    { name: "nesting", help: "What systemd and containers inside need" },
    { name: "fuse", label: "FUSE" },
    { name: "keyctl", help: "What Docker in an unprivileged CT needs" },
    { name: "mknod", help: "Make device nodes, in the CT's own name space" },
  ],
};

export function CtGeneral(form: StepForm) {
  const pools = usePools().data ?? [];
  return (
    <Stack>
      <SchemaFields
        {...form}
        columns={2}
        fields={[
          "vmid",
          { name: "hostname", help: "Its name, also in DNS" },
          { name: "password", label: "Password of root", secret: true, help: "None: only keys and the host open it" },
          { name: "ssh-public-keys", help: "One a line, for root", lines: 1 },
          { name: "tags", options: [], many: true, open: true, help: "Enter ends one" },
          { name: "pool", options: pools.map((row) => row.poolid) },
          { name: "onboot", label: "Start with the host" },
          { name: "unprivileged", label: "Unprivileged", help: "Its root is nobody on the host: leave it on" },
        ]}
      />
      <Accordion variant="contained">
        <Accordion.Item value="more">
          <Accordion.Control>Features and notes</Accordion.Control>
          <Accordion.Panel>
            <SchemaFields
              {...form}
              columns={1}
              fields={[FEATURES, { name: "description", label: "Notes", lines: 2 }]}
            />
          </Accordion.Panel>
        </Accordion.Item>
      </Accordion>
    </Stack>
  );
}

export function CtTemplate({ values, errors, onChange }: StepForm) {
  return (
    <ImageChoice
      kind="lxc"
      label="Template"
      storage={useImageStorage("lxc")}
      value={values.ostemplate ?? ""}
      error={errors.ostemplate}
      onChange={(volid) => onChange("ostemplate", volid)}
    />
  );
}

export function CtDisks({ storage, ...form }: StepForm & { storage: string }) {
  return (
    <Stack>
      <MountPointForm {...optionForm(form, "rootfs")} brief />
      <IndexedForms
        form={form}
        names={indexed(form.values, "mp")}
        more={["Add a volume", nextIndexed(form.values, "mp"), `${storage}:8`]}
        render={(option) => <MountPointForm {...option} />}
      />
    </Stack>
  );
}

export function CtResources(form: StepForm) {
  return (
    <SchemaFields
      {...form}
      columns={2}
      fields={[
        { name: "cores", placeholder: "all of the host's", help: "How many processors it sees" },
        { name: "memory", label: "Memory in MiB" },
        { name: "cpulimit", label: "CPU limit", help: "Processors' worth of time at most; 0 is none" },
        { name: "swap", label: "Swap in MiB", placeholder: "512" },
        { name: "cpuunits", label: "CPU weight", placeholder: "100", help: "Its share when all want the CPU" },
      ]}
    />
  );
}

export function DnsFields(form: StepForm) {
  return (
    <SchemaFields
      {...form}
      columns={2}
      fields={[
        { name: "nameserver", label: "DNS servers", placeholder: "the host's" },
        { name: "searchdomain", label: "DNS search domain", placeholder: "the host's" },
      ]}
    />
  );
}
