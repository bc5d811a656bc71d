/** Several parameters of an operation, in the order given; the part of a form that a wizard's steps have, too. */
import { SimpleGrid } from "@mantine/core";
import { asField, type Faults, type FieldSpec, fieldSchema, type RequestSchema, type Values } from "../../logic/schema";
import { PropertyFields } from "../properties/PropertyFields";
import { FieldInput } from "./FieldInput";

export interface SchemaFieldsProps {
  schema: RequestSchema;
  fields: readonly FieldSpec[];
  values: Values;
  onChange: (name: string, value: string) => void;
  errors?: Faults;
  columns?: number;
}

export function SchemaFields({ schema, fields, values, onChange, errors = {}, columns = 1 }: SchemaFieldsProps) {
  return (
    <SimpleGrid cols={{ base: 1, sm: columns }} verticalSpacing="sm">
      {fields.map(asField).map((field) => {
        const one = {
          field,
          schema: fieldSchema(schema, field.name),
          value: values[field.name] ?? "",
          onChange: (value: string) => onChange(field.name, value),
          error: errors[field.name],
          required: field.required ?? schema.required.includes(field.name),
        };
        return field.parts === undefined ? (
          <FieldInput key={field.name} {...one} />
        ) : (
          <PropertyFields key={field.name} {...one} parts={field.parts} columns={columns} />
        );
      })}
    </SimpleGrid>
  );
}
