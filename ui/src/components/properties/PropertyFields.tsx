/** A property string as its parts, by its sub-schema. Parts that are not asked for stay as they are. */
import { Alert, Fieldset, SimpleGrid, Text } from "@mantine/core";
import { parse, print } from "../../logic/propertyString";
import { asField, type Field, type FieldSchema, type FieldSpec, labelOf, partsSchema } from "../../logic/schema";
import { FieldInput } from "../form/FieldInput";

/** How the text is taken apart and put together, where it is not as usual. */
export interface Codec {
  readonly parse: (text: string) => Readonly<Record<string, string>>;
  readonly print: (parts: Readonly<Record<string, string | undefined>>) => string;
}

export interface PropertyFieldsProps {
  field: Field;
  schema: FieldSchema | undefined;
  parts: readonly FieldSpec[];
  value: string;
  onChange: (value: string) => void;
  error?: string | undefined;
  columns?: number;
  codec?: Codec;
}

function codecOf(schema: FieldSchema | undefined): Codec {
  const key = schema?.["x-default-key"];
  return { parse: (text) => parse(text, key), print: (parts) => print(parts, key) };
}

export function PropertyFields(props: PropertyFieldsProps) {
  const { field, schema, parts, value, onChange, error, columns = 1, codec = codecOf(schema) } = props;
  const inner = partsSchema(schema);
  const now = codec.parse(value);
  const faulty = splitFault(error, parts);
  return (
    <Fieldset legend={field.label ?? labelOf(field.name)} style={{ gridColumn: "1 / -1" }}>
      {field.help !== undefined && (
        <Text size="sm" c="dimmed" mb="sm">
          {field.help}
        </Text>
      )}
      {faulty.whole !== undefined && (
        <Alert color="red" role="alert" mb="sm">
          {faulty.whole}
        </Alert>
      )}
      <SimpleGrid cols={{ base: 1, sm: columns }} verticalSpacing="sm">
        {parts.map(asField).map((part) => (
          <FieldInput
            key={part.name}
            field={part}
            schema={inner.properties[part.name]}
            value={now[part.name] ?? ""}
            onChange={(text) => onChange(codec.print({ ...now, [part.name]: text }))}
            error={faulty.parts[part.name]}
            required={part.required ?? inner.required.includes(part.name)}
          />
        ))}
      </SimpleGrid>
    </Fieldset>
  );
}

/** The API says `tag: Input should be less than ...` of a part, and anything of the whole. */
function splitFault(error: string | undefined, parts: readonly FieldSpec[]) {
  const [name = "", ...rest] = (error ?? "").split(": ");
  const known = parts.map(asField).some((part) => part.name === name);
  return known && rest.length > 0
    ? { whole: undefined, parts: { [name]: rest.join(": ") } as Record<string, string> }
    : { whole: error, parts: {} as Record<string, string> };
}
