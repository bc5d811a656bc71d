/** What a wizard holds: the values, the step that is shown, and the faults of the steps that were left or sent. */
import { useCallback, useState } from "react";
import { type StepPlan, stepOf } from "../../logic/creating";
import type { Faults, Values } from "../../logic/schema";

export interface WizardState {
  readonly values: Values;
  readonly step: string;
  readonly errors: Faults;
  readonly faulty: ReadonlySet<string>;
  readonly set: (name: string, value: string) => void;
  readonly go: (step: string) => void;
  readonly next: () => void;
  /** Whether nothing is wrong; otherwise the first faulty step is shown. */
  readonly check: () => boolean;
  /** Show the first step that one of the faults belongs to. */
  readonly show: (faults: Faults) => void;
}

export interface WizardPlan {
  readonly plans: readonly StepPlan[];
  readonly defaults: Values;
  readonly faultsOf: (values: Values) => Faults;
  /** What the API said, by parameter. */
  readonly refused: Faults;
  readonly forgive: (name: string) => void;
  readonly firstStep?: string;
}

export function useWizard({ plans, defaults, faultsOf, refused, forgive, firstStep }: WizardPlan): WizardState {
  const [typed, setTyped] = useState<Values>({});
  const [step, setStep] = useState(plans.find((plan) => plan.key === firstStep)?.key ?? plans[0]?.key ?? "");
  const [checked, setChecked] = useState<ReadonlySet<string>>(new Set());
  const values = { ...defaults, ...typed };
  const faults = faultsOf(values);
  const shown = Object.entries(faults).filter(([name]) => checked.has(stepOf(plans, name)));
  const errors = { ...Object.fromEntries(shown), ...refused };

  /** Whether there is such a step. */
  const show = (found: Faults): boolean => {
    const names = Object.keys(found);
    const first = plans.find((plan) => names.some((name) => stepOf(plans, name) === plan.key));
    setStep((before) => first?.key ?? before);
    return first !== undefined;
  };
  const go = (to: string) => {
    setChecked((before) => new Set([...before, step]));
    setStep(to);
  };
  return {
    values,
    step,
    errors,
    faulty: new Set(Object.keys(errors).map((name) => stepOf(plans, name))),
    set: useCallback(
      (name, value) => {
        forgive(name);
        setTyped((before) => ({ ...before, [name]: value }));
      },
      [forgive],
    ),
    go,
    next: () => {
      const here = Object.keys(faults).some((name) => stepOf(plans, name) === step);
      const after = plans[plans.findIndex((plan) => plan.key === step) + 1];
      go(here || after === undefined ? step : after.key);
    },
    check: () => {
      setChecked(new Set(plans.map((plan) => plan.key)));
      return !show(faults);
    },
    show,
  };
}
