/** What a form of a request schema holds, and what it does with it. */
import { type FormEvent, type RefObject, useRef, useState } from "react";
import { ApiError, told } from "../../api/errors";
import { type Done, useAct } from "../../hooks/actions";
import { type Action, asked } from "../../logic/actions";
import { asField, type Faults, type FieldSpec, faultsOf, type RequestSchema, type Values } from "../../logic/schema";

export interface FormPlan {
  readonly schema: RequestSchema;
  readonly fields: readonly FieldSpec[];
  readonly initial: Values;
  readonly action: (values: Values) => Action;
  readonly onDone: ((done: Done, values: Values) => void) | undefined;
  readonly onValues: ((values: Values) => void) | undefined;
}

export interface FormState {
  readonly form: RefObject<HTMLFormElement | null>;
  readonly values: Values;
  readonly errors: Faults;
  readonly failure: string | undefined;
  readonly busy: boolean;
  /** Whether the action has to be confirmed, now that nothing is wrong with the values. */
  readonly asking: boolean;
  readonly action: Action;
  readonly change: (name: string, value: string) => void;
  readonly submit: (event: FormEvent) => Promise<void>;
  readonly stopAsking: () => void;
}

/** Move to the first field that is faulty, once it is shown as such. */
export function focusFault(form: HTMLElement | null): void {
  requestAnimationFrame(() => form?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus());
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

export function useSchemaForm({ schema, fields, initial, action, onDone, onValues }: FormPlan): FormState {
  const act = useAct();
  const form = useRef<HTMLFormElement>(null);
  const [values, setValues] = useState<Values>(initial);
  const [errors, setErrors] = useState<Faults>({});
  const [failure, setFailure] = useState<string>();
  const [busy, setBusy] = useState(false);
  const [asking, setAsking] = useState(false);
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
    setFailure(messageOf(faults, fields, message));
    focusFault(form.current);
  }

  async function send(): Promise<void> {
    setBusy(true);
    try {
      const done = await act(now);
      onDone?.(done, values);
    } catch (error) {
      refuse(error instanceof ApiError ? error.errors : {}, error instanceof ApiError ? error.message : told(error));
    } finally {
      setBusy(false);
    }
  }

  async function submit(event: FormEvent): Promise<void> {
    event.preventDefault();
    // A form in a dialog is, for React, inside of the form that opened it.
    event.stopPropagation();
    const faults = faultsOf(schema, fields, values);
    refuse(faults);
    if (Object.keys(faults).length > 0) {
      return;
    }
    if (asked(now)) {
      setAsking(true);
    } else {
      await send();
    }
  }

  return {
    form,
    values,
    errors,
    failure,
    busy,
    asking,
    action: now,
    change,
    submit,
    stopAsking: () => setAsking(false),
  };
}
