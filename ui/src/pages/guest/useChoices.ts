/** What the host knows that a field can be set to: CPU models, storages. */
import { useStoragesFor } from "../../components/properties/VolumeFields";
import { useCpuModels } from "../../hooks/creating";
import type { GuestRow } from "../../hooks/resources";
import { withChoices } from "../../logic/choices";
import type { FieldSpec } from "../../logic/schema";

export function useChoices(guest: GuestRow, fields: readonly FieldSpec[]): FieldSpec[] {
  const node = guest.type === "qemu" ? guest.node : undefined;
  const models = useCpuModels(node).data ?? [];
  const storages = useStoragesFor(node, "images");
  return withChoices(fields, {
    cputype: models.map((row) => row.name),
    vmstatestorage: storages.map((row) => row.storage),
  });
}
