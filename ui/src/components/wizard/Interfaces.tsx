/** The network interfaces of a new guest, any number of them. */
import { Button, Group, Stack, Text } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { indexed, nextIndexed } from "../../logic/creating";
import type { GuestKind } from "../../logic/propertyString";
import { type Faults, fieldSchema, type RequestSchema, type Values } from "../../logic/schema";
import { NetForm } from "../properties/NetForm";

/** What every step of a wizard is given. */
export interface StepForm {
  node: string;
  schema: RequestSchema;
  values: Values;
  errors: Faults;
  onChange: (name: string, value: string) => void;
}

export function Interfaces({ kind, bridge, form }: { kind: GuestKind; bridge: string; form: StepForm }) {
  const names = indexed(form.values, "net");
  function add(): void {
    const name = nextIndexed(form.values, "net");
    const container = `name=eth${name.slice(3)},bridge=${bridge},ip=dhcp,ip6=auto`;
    form.onChange(name, kind === "lxc" ? container : `virtio,bridge=${bridge}`);
  }
  return (
    <Stack>
      {names.length === 0 && <Text>It has no network.</Text>}
      {names.map((name) => (
        <Stack key={name} gap="xs">
          <NetForm
            kind={kind}
            node={form.node}
            name={name}
            schema={fieldSchema(form.schema, name)}
            value={form.values[name] ?? ""}
            error={form.errors[name]}
            onChange={(value) => form.onChange(name, value)}
          />
          <Group justify="flex-end">
            <Button variant="default" size="compact-sm" onClick={() => form.onChange(name, "")}>
              Remove {name}
            </Button>
          </Group>
        </Stack>
      ))}
      <Button variant="default" leftSection={<IconPlus size={16} />} w="fit-content" onClick={add}>
        Add an interface
      </Button>
    </Stack>
  );
}
