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
import { type FormEvent, type ReactNode, useRef, useState } from "react";
import { ApiError, told } from "../api/errors";
import { type Done, useAct } from "../hooks/actions";
import { useRequestSchema } from "../hooks/schema";
import { type Action, asked } from "../logic/actions";
import {
  asField,
  type Faults,
  type FieldGroup,
  type FieldSpec,
  faultsOf,
  type OperationName,
  type RequestSchema,
  type Values,
} from "../logic/schema";
import { ConfirmAction } from "./ConfirmAction";
import { CopyAs } from "./CopyAs";
import { SchemaFields } from "./form/SchemaFields";

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

/** Move to the first field that is faulty, once it is shown as such. */
export function focusFault(form: HTMLElement | null): void {
  requestAnimationFrame(() => form?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus());
}

function Form({ schema, ...props }: SchemaFormProps & { schema: RequestSchema }) {
  const { fields, action, initial = {}, columns = 1, onDone, onCancel, onValues, children } = props;
  const act = useAct();
  const form = useRef<HTMLFormElement>(null);
  const [values, setValues] = useState<Values>(initial);
  const [errors, setErrors] = useState<Faults>({});
  const [failure, setFailure] = useState<string>();
  const [busy, setBusy] = useState(false);
  const [asking, setAsking] = useState(false);
  const shown = allFields(fields);
  const now = action(values);

  function change(name: string, value: string): void {
    const next = { ...values, [name]: value };
    setValues(next);
    onValues?.(next);
    if (errors[name] !== undefined) {
      setErrors(({ [name]: _, ...rest }) => rest);
    }
  }

  function refuse(faults: Faults, message?: string): void {
    setErrors(faults);
    setFailure(messageOf(faults, shown, message));
    focusFault(form.current);
  }

  async function submit(event: FormEvent): Promise<void> {
    event.preventDefault();
    event.stopPropagation();
    const faults = faultsOf(schema, shown, values);
    if (Object.keys(faults).length > 0) {
      refuse(faults);
      return;
    }
    refuse({});
    if (asked(now)) {
      setAsking(true);
      return;
    }
    setBusy(true);
    try {
      onDone?.(await act(now), values);
    } catch (error) {
      refuse(error instanceof ApiError ? error.errors : {}, error instanceof ApiError ? error.message : told(error));
    } finally {
      setBusy(false);
    }
  }

  const list = { schema, values, errors, columns, onChange: change };
  return (
    <>
      <form ref={form} onSubmit={submit} noValidate>
        <Stack>
          {failure !== undefined && (
            <Alert color="red" role="alert" className="lines">
              {failure}
            </Alert>
          )}
          {fields.filter((one) => !isGroup(one)).length > 0 && (
            <SchemaFields {...list} fields={fields.filter((one): one is FieldSpec => !isGroup(one))} />
          )}
          {fields.filter(isGroup).map((group) => (
            <GroupOfFields key={group.title} group={group} list={list} />
          ))}
          {children}
          <Group justify="flex-end" gap="xs">
            <CopyAs action={now} />
            {onCancel && (
              <Button variant="default" onClick={onCancel}>
                Cancel
              </Button>
            )}
            <Button type="submit" loading={busy}>
              {props.submit ?? now.title}
            </Button>
          </Group>
        </Stack>
      </form>
      <ConfirmAction
        action={now}
        opened={asking}
        onClose={() => setAsking(false)}
        onDone={(done) => onDone?.(done, values)}
      />
    </>
  );
}

/** What cannot stand beside a field: the message, when nothing is said of fields, and faults of parameters not shown. */
export function messageOf(faults: Faults, shown: readonly FieldSpec[], message?: string): string | undefined {
  const names = new Set(shown.map((spec) => asField(spec).name));
  const others = Object.entries(faults).filter(([name]) => !names.has(name));
  const lines = others.map(([name, why]) => `${name}: ${why}`);
  if (Object.keys(faults).length === 0) {
    return message;
  }
  return lines.length > 0 ? [message, ...lines].filter(Boolean).join("\n") : undefined;
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
