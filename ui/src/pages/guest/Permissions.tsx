/** Who may do what with a guest. */
import { SubjectPermissions } from "../../components/SubjectPermissions";
import type { GuestRow } from "../../hooks/resources";
import { guestSubject } from "../../logic/acl";

export function Permissions({ guest }: { guest: GuestRow }) {
  return <SubjectPermissions subject={guestSubject(guest)} />;
}
