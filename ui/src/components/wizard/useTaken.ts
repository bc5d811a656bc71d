/** Who has the VMID that a form asks for, unless it is the guest that the form itself is making. */
import type { CreationState } from "../../hooks/creation";
import { useGuests } from "../../hooks/resources";
import type { Faults, Values } from "../../logic/schema";

export function useTaken(creation: CreationState): (values: Values) => Faults {
  const guests = useGuests().data ?? [];
  const making = creation.busy || (creation.made && creation.failure === undefined);
  return ({ vmid = "" }) => {
    const owner = making ? undefined : guests.find((row) => String(row.vmid) === vmid);
    return owner === undefined ? {} : { vmid: `${owner.name ?? "another guest"} has it already` };
  };
}
