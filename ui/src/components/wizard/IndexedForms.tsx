/** Any number of like options of a new guest (`net0`, `net1` ...), each with its form, to be added and removed. */
import { Button, Group, Stack } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { type Faults, type FieldSchema, fieldSchema, type RequestSchema, type Values } from "../../logic/schema";

/** What every step of a wizard is given. */
export interface StepForm {
  node: string;
  schema: RequestSchema;
  values: Values;
  errors: Faults;
  onChange: (name: string, value: string) => void;
}

/** What the form of one option is given. */
export interface OptionForm {
  node: string;
  name: string;
  schema: FieldSchema | undefined;
  value: string;
  error: string | undefined;
  onChange: (value: string) => void;
}

export function optionForm({ node, schema, values, errors, onChange }: StepForm, name: string): OptionForm {
  return {
    node,
    name,
    schema: fieldSchema(schema, name),
    value: values[name] ?? "",
    error: errors[name],
    onChange: (value) => onChange(name, value),
  };
}

interface Props {
  form: StepForm;
  names: readonly string[];
  /** The button that adds one: what it says, the option's name and what it begins with. */
  more: readonly [label: string, name: string, value: string];
  render: (option: OptionForm) => ReactNode;
}

export function IndexedForms({ form, names, more: [label, next, beginning], render }: Props) {
  return (
    <>
      {names.map((name) => (
        <Stack key={name} gap="xs">
          {render(optionForm(form, name))}
          <Group justify="flex-end">
            <Button variant="default" size="compact-sm" onClick={() => form.onChange(name, "")}>
              Remove {name}
            </Button>
          </Group>
        </Stack>
      ))}
      <Button
        variant="default"
        leftSection={<IconPlus size={16} />}
        w="fit-content"
        onClick={() => form.onChange(next, beginning)}
      >
        {label}
      </Button>
    </>
  );
}
