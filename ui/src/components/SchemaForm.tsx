/**
 * A form of an operation's request schema: the caller names the fields, their order and their groups.
 *
 *     <SchemaForm
 *       operation={{ method: "POST", path: "/access/users" }}
 *       fields={["userid", { name: "password", secret: true }, "comment"]}
 *       action={(values) => ({ title: "Add user", method: "POST", path: "/access/users", parameters: given(values) })}
 *     />
 *
 * What the schema refuses is told before anything is sent, what the API refuses stands beside its field, and what was
 * typed stays.
 */
import { Accordion, Alert, Button, Fieldset, Group, Loader, Stack } from "@mantine/core";
import { type ReactNode, useState } from "react";
import { told } from "../api/errors";
import type { Done } from "../hooks/actions";
import { useRequestSchema } from "../hooks/schema";
import type { Action } from "../logic/actions";
import {
  asField,
  type FieldGroup,
  type FieldSpec,
  type OperationName,
  type RequestSchema,
  type Values,
} from "../logic/schema";
import { ConfirmAction } from "./ConfirmAction";
import { CopyAs } from "./CopyAs";
import { SchemaFields } from "./form/SchemaFields";
import { useSchemaForm } from "./form/useSchemaForm";

export { messageOf } from "./form/useSchemaForm";

export interface SchemaFormProps {
  operation: OperationName;
  fields: readonly (FieldSpec | FieldGroup)[];
  action: (values: Values) => Action;
  initial?: Values;
  submit?: string;
  columns?: number;
  onDone?: ((done: Done, values: Values) => void) | undefined;
  onCancel?: () => void;
  /** Told of what is typed, where other parts of the page depend on it. */
  onValues?: (values: Values) => void;
  children?: ReactNode;
}

function isGroup(one: FieldSpec | FieldGroup): one is FieldGroup {
  return typeof one === "object" && "fields" in one;
}

function allFields(fields: readonly (FieldSpec | FieldGroup)[]): FieldSpec[] {
  return fields.flatMap((one) => (isGroup(one) ? one.fields : [one]));
}

export function SchemaForm(props: SchemaFormProps) {
  const { schema, error } = useRequestSchema(props.operation);
  if (error !== null) {
    return (
      <Alert color="red" role="alert">
        {told(error)}
      </Alert>
    );
  }
  return schema === undefined ? <Loader aria-label="Loading" /> : <Form {...props} schema={schema} />;
}

function Form({ schema, ...props }: SchemaFormProps & { schema: RequestSchema }) {
  const { fields, initial = {}, columns = 1, action, onDone, onCancel, onValues, children } = props;
  const state = useSchemaForm({ schema, fields: allFields(fields), initial, action, onDone, onValues });
  const { values, errors, failure } = state;
  const list = { schema, values, errors, columns, onChange: state.change };
  const single = fields.filter((one): one is FieldSpec => !isGroup(one));
  return (
    <>
      <form ref={state.form} onSubmit={state.submit} noValidate>
        <Stack>
          {failure !== undefined && (
            <Alert color="red" role="alert" className="lines">
              {failure}
            </Alert>
          )}
          {single.length > 0 && <SchemaFields {...list} fields={single} />}
          {fields.filter(isGroup).map((group) => (
            <GroupOfFields key={group.title} group={group} list={list} />
          ))}
          {children}
          <Group justify="flex-end" gap="xs">
            <CopyAs action={state.action} />
            {onCancel && (
              <Button variant="default" onClick={onCancel}>
                Cancel
              </Button>
            )}
            <Button type="submit" loading={state.busy}>
              {props.submit ?? state.action.title}
            </Button>
          </Group>
        </Stack>
      </form>
      <ConfirmAction
        action={state.action}
        opened={state.asking}
        onClose={state.stopAsking}
        onDone={(done) => onDone?.(done, values)}
      />
    </>
  );
}

type FieldList = Omit<Parameters<typeof SchemaFields>[0], "fields">;

function GroupOfFields({ group, list }: { group: FieldGroup; list: FieldList }) {
  const faulty = group.fields.map(asField).some((field) => list.errors?.[field.name] !== undefined);
  const [opened, setOpened] = useState<string | null>(null);
  if (!group.folded) {
    return (
      <Fieldset legend={group.title}>
        <SchemaFields {...list} fields={group.fields} />
      </Fieldset>
    );
  }
  return (
    <Accordion variant="contained" value={faulty ? group.title : opened} onChange={setOpened}>
      <Accordion.Item value={group.title}>
        <Accordion.Control>{group.title}</Accordion.Control>
        <Accordion.Panel>
          <SchemaFields {...list} fields={group.fields} />
        </Accordion.Panel>
      </Accordion.Item>
    </Accordion>
  );
}
