/** A new CT, step by step. */
import { useMemo } from "react";
import { GuestWizard } from "../../components/wizard/GuestWizard";
import type { StepForm } from "../../components/wizard/IndexedForms";
import { Interfaces } from "../../components/wizard/Interfaces";
import { Loading } from "../../components/wizard/Loading";
import { usePrefilled } from "../../components/wizard/prefilled";
import { type Host, useHost } from "../../components/wizard/useHost";
import { useTaken } from "../../components/wizard/useTaken";
import { useWizard } from "../../components/wizard/useWizard";
import { useCreation } from "../../hooks/creation";
import { useRequestSchema } from "../../hooks/schema";
import { containerDefaults, containerFaults, containerSteps, type StepPlan } from "../../logic/creating";
import { faultsOf, type RequestSchema, type Values } from "../../logic/schema";
import { CtDisks, CtGeneral, CtResources, CtTemplate, DnsFields } from "./CtSteps";

const TITLE = "Create CT";
const OPERATION = { method: "POST", path: "/nodes/{node}/lxc" } as const;
const PLANS: readonly StepPlan[] = [
  {
    key: "general",
    title: "General",
    names: [
      "vmid",
      "hostname",
      "password",
      "ssh-public-keys",
      "tags",
      "pool",
      "onboot",
      "unprivileged",
      "features",
      "description",
    ],
  },
  { key: "template", title: "Template", names: ["ostemplate"] },
  { key: "disks", title: "Disks", names: ["rootfs", "mp", "storage"] },
  { key: "resources", title: "CPU & memory", names: ["cores", "cpulimit", "cpuunits", "memory", "swap"] },
  { key: "network", title: "Network", names: ["net", "nameserver", "searchdomain"] },
  { key: "confirm", title: "Review", names: [] },
];

export function CreateCt() {
  const { host, error } = useHost("lxc");
  const known = useRequestSchema(OPERATION);
  if (host === undefined || known.schema === undefined) {
    return <Loading title={TITLE} error={error ?? known.error} />;
  }
  return <Form host={host} schema={known.schema} />;
}

function Form({ host, schema }: { host: Host; schema: RequestSchema }) {
  const creation = useCreation();
  const taken = useTaken(creation);
  const { step, ...prefilled } = usePrefilled();
  // biome-ignore lint/correctness/useExhaustiveDependencies: what the form began with stays, whatever the host has later
  const defaults = useMemo<Values>(() => ({ ...containerDefaults(host), ...prefilled }), []);
  const wizard = useWizard({
    plans: PLANS,
    defaults,
    faultsOf: (values) => ({
      ...faultsOf(schema, Object.keys({ ...schema.properties }), values),
      ...containerFaults(values),
      ...taken(values),
    }),
    refused: creation.errors,
    forgive: creation.forgive,
    ...(step !== undefined && { firstStep: step }),
  });
  const { values } = wizard;
  const steps = containerSteps(host.node, values);
  const form: StepForm = { node: host.node, schema, values, errors: wizard.errors, onChange: wizard.set };

  return (
    <GuestWizard title={TITLE} plans={PLANS} wizard={wizard} creation={creation} steps={steps}>
      {wizard.step === "general" && <CtGeneral {...form} />}
      {wizard.step === "template" && <CtTemplate {...form} />}
      {wizard.step === "disks" && <CtDisks {...form} storage={host.storage} />}
      {wizard.step === "resources" && <CtResources {...form} />}
      {wizard.step === "network" && (
        <>
          <Interfaces kind="lxc" bridge={host.bridge} form={form} />
          <DnsFields {...form} />
        </>
      )}
    </GuestWizard>
  );
}
