/** A new VM, step by step. */
import { useNavigate } from "@tanstack/react-router";
import { useMemo } from "react";
import { Confirm } from "../../components/wizard/Confirm";
import { creationFailure } from "../../components/wizard/CreationFailure";
import { CreationLog } from "../../components/wizard/CreationLog";
import { Interfaces, type StepForm } from "../../components/wizard/Interfaces";
import { Loading } from "../../components/wizard/Loading";
import { usePrefilled } from "../../components/wizard/prefilled";
import { type Host, useHost } from "../../components/wizard/useHost";
import { useTaken } from "../../components/wizard/useTaken";
import { useWizard } from "../../components/wizard/useWizard";
import { Wizard } from "../../components/wizard/Wizard";
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
  const navigate = useNavigate();
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
      title={TITLE}
      plans={PLANS}
      wizard={wizard}
      submit="Create"
      busy={creation.busy}
      failure={creationFailure(creation, values.vmid)}
      onSubmit={create}
    >
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
