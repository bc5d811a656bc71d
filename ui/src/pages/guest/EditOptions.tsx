/** A form for some options of a guest, made from the schema. */

import { FocusedModal } from "../../components/FocusedModal";
import { SchemaForm } from "../../components/SchemaForm";
import { useConfig } from "../../hooks/guest";
import type { GuestRow } from "../../hooks/resources";
import { nameOf } from "../../logic/guestActions";
import { edited } from "../../logic/guestConfig";
import type { Texts } from "../../logic/guestOptions";
import type { FieldSpec } from "../../logic/schema";
import { useChoices } from "./useChoices";

interface Props {
  guest: GuestRow;
  /** What is changed: `Memory`. */
  label: string;
  fields: readonly FieldSpec[];
  initial: Texts;
  /** What is sent of what is typed, where that differs. */
  sent?: (texts: Texts) => Texts;
  onClose: () => void;
}

export function configOperation(type: GuestRow["type"]) {
  return { method: "PUT", path: `/nodes/{node}/${type}/{vmid}/config` } as const;
}

export function EditOptions({ guest, label, fields, initial, sent = (texts) => texts, onClose }: Props) {
  const digest = useConfig(guest).data?.digest;
  const known = useChoices(guest, fields);
  return (
    <FocusedModal opened onClose={onClose} title={`${label} of ${nameOf(guest)}`} size="lg">
      <SchemaForm
        operation={configOperation(guest.type)}
        fields={known}
        initial={initial}
        columns={2}
        submit="Save"
        action={(now) =>
          edited(
            guest,
            `Change ${label} of ${nameOf(guest)}`,
            sent(initial),
            sent(now),
            digest === undefined ? undefined : String(digest),
          )
        }
        onDone={onClose}
        onCancel={onClose}
      />
    </FocusedModal>
  );
}
