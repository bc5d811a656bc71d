/** The input that fits a parameter's schema, with its label, its help and what is wrong with it. */
import {
  Autocomplete,
  Checkbox,
  type ComboboxData,
  Fieldset,
  MultiSelect,
  NumberInput,
  PasswordInput,
  Select,
  SimpleGrid,
  Switch,
  TagsInput,
  Textarea,
  TextInput,
} from "@mantine/core";
import { type Choice, type Field, type FieldSchema, labelOf } from "../../logic/schema";

export interface FieldInputProps {
  field: Field;
  schema: FieldSchema | undefined;
  value: string;
  onChange: (value: string) => void;
  error?: string | undefined;
  required?: boolean;
}

/** What every kind of input takes of a field. */
function common({ field, schema, error, required = false }: FieldInputProps) {
  const help = field.help ?? schema?.description;
  return {
    label: field.label ?? labelOf(field.name),
    error: error ?? false,
    required,
    withAsterisk: required,
    disabled: field.disabled ?? false,
    ...(help !== undefined && { description: help }),
  };
}

function placeholderOf({ field, schema }: FieldInputProps): { placeholder?: string } {
  const text = field.placeholder ?? (schema?.default === undefined ? undefined : String(schema.default));
  return text === undefined ? {} : { placeholder: text };
}

/** What can be chosen; a value that is there and not among it can be seen, too. */
function choices(options: readonly Choice[], value: string): ComboboxData {
  const known = options.map((one) => (typeof one === "string" ? { value: one, label: one } : { ...one }));
  return value === "" || known.some((one) => one.value === value) ? known : [{ value, label: value }, ...known];
}

export function isOn(value: string, schema: FieldSchema | undefined, otherwise = schema?.default === true): boolean {
  return value === "" ? otherwise : /^(1|on|yes|true)$/.test(value);
}

function SwitchField(props: FieldInputProps) {
  const { withAsterisk: _, required: __, ...shown } = common(props);
  return (
    <Switch
      {...shown}
      checked={isOn(props.value, props.schema, props.field.on)}
      onChange={(event) => props.onChange(event.currentTarget.checked ? "1" : "0")}
    />
  );
}

function ChoiceField(props: FieldInputProps & { options: readonly Choice[] }) {
  const { field, value, onChange, options, required } = props;
  const shown = {
    ...common(props),
    ...placeholderOf(props),
    data: choices(options, field.many || field.open ? "" : value),
  };
  if (field.many) {
    const several = value === "" ? [] : value.split(/[,; ]+/);
    const change = (now: string[]) => onChange(now.join(","));
    return field.open ? (
      <TagsInput {...shown} value={several} onChange={change} />
    ) : (
      <MultiSelect {...shown} searchable value={several} onChange={change} />
    );
  }
  if (field.open) {
    return <Autocomplete {...shown} value={value} onChange={onChange} />;
  }
  return (
    <Select
      {...shown}
      searchable={options.length > 8}
      clearable={!required}
      allowDeselect={!required}
      value={value === "" ? null : value}
      onChange={(now) => onChange(now ?? "")}
    />
  );
}

function NumberField(props: FieldInputProps) {
  const { schema, value, onChange } = props;
  return (
    <NumberInput
      {...common(props)}
      {...placeholderOf(props)}
      allowDecimal={schema?.type === "number"}
      allowNegative={(schema?.minimum ?? 0) < 0}
      clampBehavior="none"
      hideControls
      value={value}
      onChange={(now) => onChange(String(now))}
    />
  );
}

function TextField(props: FieldInputProps) {
  const { field, value, onChange } = props;
  const shown = { ...common(props), ...placeholderOf(props), value };
  if (field.secret) {
    return (
      <PasswordInput
        {...shown}
        autoComplete="new-password"
        visibilityToggleFocusable
        // Alone among Mantine's inputs it does not say so itself.
        aria-invalid={shown.error !== false}
        onChange={(event) => onChange(event.currentTarget.value)}
      />
    );
  }
  if (field.lines !== undefined) {
    return (
      <Textarea
        {...shown}
        autosize
        minRows={field.lines}
        maxRows={16}
        onChange={(event) => onChange(event.currentTarget.value)}
      />
    );
  }
  return (
    <TextInput
      {...shown}
      autoComplete="off"
      spellCheck={false}
      onChange={(event) => onChange(event.currentTarget.value)}
    />
  );
}

function BoxesField(props: FieldInputProps & { options: readonly Choice[] }) {
  const { value, onChange, options } = props;
  const { withAsterisk: _, required: __, disabled, ...shown } = common(props);
  const chosen = value === "" ? [] : value.split(/[,; ]+/);
  const names = options.map((one) => (typeof one === "string" ? one : one.value));
  const kinds = [...new Set(names.map((name) => name.split(".")[0] ?? name))];
  return (
    <Checkbox.Group {...shown} value={chosen} onChange={(now) => onChange(now.join(","))}>
      {kinds.map((kind) => (
        <Fieldset key={kind} legend={kind} mt="xs" p="xs">
          <SimpleGrid cols={{ base: 1, xs: 2 }} spacing="xs" verticalSpacing={6}>
            {names
              .filter((name) => (name.split(".")[0] ?? name) === kind)
              .map((name) => (
                <Checkbox key={name} size="sm" value={name} label={name} disabled={disabled} />
              ))}
          </SimpleGrid>
        </Fieldset>
      ))}
    </Checkbox.Group>
  );
}

export function FieldInput(props: FieldInputProps) {
  const { field, schema } = props;
  const options = field.options ?? schema?.enum?.map(String);
  if (options !== undefined && field.boxes) {
    return <BoxesField {...props} options={options} />;
  }
  if (options !== undefined) {
    return <ChoiceField {...props} options={options} />;
  }
  switch (schema?.type) {
    case "boolean":
      return <SwitchField {...props} />;
    case "integer":
    case "number":
      return <NumberField {...props} />;
    default:
      return <TextField {...props} />;
  }
}
