/** A new VM, step by step. */
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
import {
  choiceValues,
  machineChoice,
  machineDefaults,
  machineFaults,
  machineSteps,
  type StepPlan,
  splitMachine,
} from "../../logic/creating";
import { faultsOf, type RequestSchema, type Values } from "../../logic/schema";
import { CloudNetwork, VmDisks, VmGeneral, VmResources } from "./VmSteps";
import { VmSystem } from "./VmSystem";

const TITLE = "Create VM";
const OPERATION = { method: "POST", path: "/nodes/{node}/qemu" } as const;
const PLANS: readonly StepPlan[] = [
  { key: "general", title: "General", names: ["vmid", "name", "tags", "pool", "onboot", "description"] },
  {
    key: "os",
    title: "OS",
    names: ["source", "image", "iso", "ostype", "ide", "ciuser", "cipassword", "sshkeys", "machine", "bios", "vga"],
  },
  {
    key: "disks",
    title: "Disks",
    names: ["disk", "scsi", "sata", "virtio", "efidisk", "tpmstate", "scsihw", "storage"],
  },
  {
    key: "resources",
    title: "CPU & memory",
    names: ["sockets", "cores", "cpu", "memory", "balloon", "cpulimit", "cpuunits"],
  },
  { key: "network", title: "Network", names: ["net", "ipconfig", "nameserver", "searchdomain"] },
  { key: "confirm", title: "Review", names: [] },
];

export function CreateVm() {
  const { host, error } = useHost("qemu");
  const known = useRequestSchema(OPERATION);
  if (host === undefined || known.schema === undefined) {
    return <Loading title={TITLE} error={error ?? known.error} />;
  }
  return <Form host={host} schema={known.schema} />;
}

function beginning(host: Host, prefilled: Values): Values {
  return { ...machineDefaults(host), ...choiceValues(machineChoice(host, prefilled.iso)), ...prefilled };
}

function Form({ host, schema }: { host: Host; schema: RequestSchema }) {
  const creation = useCreation();
  const taken = useTaken(creation);
  const { step, ...prefilled } = usePrefilled();
  // biome-ignore lint/correctness/useExhaustiveDependencies: what the form began with stays, whatever the host has later
  const defaults = useMemo(() => beginning(host, prefilled), []);
  const wizard = useWizard({
    plans: PLANS,
    defaults,
    faultsOf: (all) => {
      const { values, choice } = splitMachine(all);
      return {
        ...faultsOf(schema, Object.keys(schema.properties), values),
        ...machineFaults(values, choice),
        ...taken(values),
      };
    },
    refused: creation.errors,
    forgive: creation.forgive,
    ...(step !== undefined && { firstStep: step }),
  });
  const { values: all } = wizard;
  const { values, choice } = splitMachine(all);
  const steps = machineSteps(host.node, values, choice);
  const form: StepForm = { node: host.node, schema, values: all, errors: wizard.errors, onChange: wizard.set };

  return (
    <GuestWizard title={TITLE} plans={PLANS} wizard={wizard} creation={creation} steps={steps}>
      {wizard.step === "general" && <VmGeneral {...form} />}
      {wizard.step === "os" && <VmSystem {...form} />}
      {wizard.step === "disks" && <VmDisks {...form} storage={host.storage} />}
      {wizard.step === "resources" && <VmResources {...form} />}
      {wizard.step === "network" && (
        <>
          <Interfaces kind="qemu" bridge={host.bridge} form={form} />
          {choice.source === "image" && <CloudNetwork {...form} />}
        </>
      )}
    </GuestWizard>
  );
}
