/** The steps of a guest that is made, to its review, its making and its page. */
import { useNavigate } from "@tanstack/react-router";
import type { ReactNode } from "react";
import type { useCreation } from "../../hooks/creation";
import type { CreationStep, StepPlan } from "../../logic/creating";
import { Confirm } from "./Confirm";
import { creationFailure } from "./CreationFailure";
import { CreationLog } from "./CreationLog";
import type { WizardState } from "./useWizard";
import { Wizard } from "./Wizard";

interface Props {
  title: string;
  plans: readonly StepPlan[];
  wizard: WizardState;
  creation: ReturnType<typeof useCreation>;
  steps: readonly CreationStep[];
  /** What the steps before the review ask for. */
  children: ReactNode;
}

export function GuestWizard({ title, plans, wizard, creation, steps, children }: Props) {
  const navigate = useNavigate();
  const { values } = wizard;

  async function create(): Promise<void> {
    const refused = await creation.run(steps);
    if (refused === undefined) {
      await navigate({ to: "/guests/$vmid/$tab", params: { vmid: values.vmid ?? "", tab: "summary" } });
    } else {
      wizard.show(refused);
    }
  }

  return (
    <Wizard
      title={title}
      plans={plans}
      wizard={wizard}
      submit="Create"
      busy={creation.busy}
      failure={creationFailure(creation, values.vmid)}
      onSubmit={create}
    >
      {children}
      {wizard.step === "confirm" &&
        (creation.busy && creation.upid !== undefined ? (
          <CreationLog upid={creation.upid} doing={creation.doing} />
        ) : (
          <Confirm
            steps={steps}
            start={values.start === "1"}
            onStart={(start) => wizard.set("start", start ? "1" : "")}
          />
        ))}
    </Wizard>
  );
}
