/** Steps of a long form: any of them can be gone to, faulty ones are marked, and what was typed stays. */
import { Alert, Button, Group, NativeSelect, Stack, Stepper, Title } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";
import { type FormEvent, type ReactNode, useEffect, useRef } from "react";
import type { StepPlan } from "../../logic/creating";
import { PageFrame } from "../PageFrame";
import type { WizardState } from "./useWizard";

export interface WizardProps {
  title: string;
  plans: readonly StepPlan[];
  wizard: WizardState;
  submit: string;
  busy: boolean;
  failure?: ReactNode;
  /** Ends when it is done or refused. */
  onSubmit: () => Promise<void>;
  children: ReactNode;
}

function faultyField(form: HTMLElement | null): HTMLElement | null | undefined {
  return form?.querySelector<HTMLElement>("[aria-invalid=true]");
}

/** Move to the first field that is faulty, else to what is said of the whole, once they are shown. */
function focusTrouble(form: HTMLElement | null): void {
  requestAnimationFrame(() => {
    (faultyField(form) ?? form?.querySelector<HTMLElement>("[role=alert]"))?.focus();
  });
}

export function Wizard({ title, plans, wizard, submit, busy, failure, onSubmit, children }: WizardProps) {
  const form = useRef<HTMLFormElement>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  const first = useRef(true);
  const index = plans.findIndex((plan) => plan.key === wizard.step);
  const last = plans.at(-1);
  const isLast = index === plans.length - 1;
  // biome-ignore lint/correctness/useExhaustiveDependencies: another step begins at its heading or its fault, not where the last ended
  useEffect(() => {
    if (!first.current) {
      (faultyField(form.current) ?? heading.current)?.focus();
    }
    first.current = false;
  }, [wizard.step]);

  function submitted(event: FormEvent): void {
    event.preventDefault();
    if (!isLast) {
      wizard.next();
    } else if (wizard.check()) {
      void onSubmit().then(() => focusTrouble(form.current));
      return;
    }
    focusTrouble(form.current);
  }

  return (
    <form ref={form} onSubmit={submitted} noValidate>
      <PageFrame title={title}>
        <Stack maw={860}>
          <Steps plans={plans} wizard={wizard} index={index} />
          {failure !== undefined && (
            <Alert color="red" role="alert" tabIndex={-1} className="lines">
              {failure}
            </Alert>
          )}
          <Title order={2} size="h3" ref={heading} tabIndex={-1}>
            {plans[index]?.title}
          </Title>
          {children}
          <Group justify="space-between">
            <Button
              variant="default"
              disabled={index <= 0 || busy}
              onClick={() => wizard.go(plans[index - 1]?.key ?? wizard.step)}
            >
              Back
            </Button>
            <Group gap="xs">
              {!isLast && last !== undefined && index < plans.length - 2 && (
                <Button variant="default" onClick={() => wizard.go(last.key)}>
                  Review
                </Button>
              )}
              <Button type="submit" loading={busy}>
                {isLast ? submit : "Next"}
              </Button>
            </Group>
          </Group>
        </Stack>
      </PageFrame>
    </form>
  );
}

function Steps({ plans, wizard, index }: { plans: readonly StepPlan[]; wizard: WizardState; index: number }) {
  const faulty = (plan: StepPlan) => wizard.faulty.has(plan.key);
  return (
    <>
      <Stepper
        visibleFrom="sm"
        size="xs"
        wrap={false}
        active={index}
        onStepClick={(to) => wizard.go(plans[to]?.key ?? wizard.step)}
      >
        {plans.map((plan) => (
          <Stepper.Step
            key={plan.key}
            label={plan.title}
            {...(faulty(plan) && {
              color: "red",
              description: "has a fault",
              icon: <IconAlertTriangle size={14} aria-hidden />,
              completedIcon: <IconAlertTriangle size={14} aria-hidden />,
            })}
          />
        ))}
      </Stepper>
      <NativeSelect
        hiddenFrom="sm"
        label={`Step ${index + 1} of ${plans.length}`}
        value={wizard.step}
        onChange={(event) => wizard.go(event.currentTarget.value)}
        data={plans.map((plan) => ({ value: plan.key, label: plan.title + (faulty(plan) ? " (has a fault)" : "") }))}
      />
    </>
  );
}
