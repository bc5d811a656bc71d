/** The network interfaces of a new guest, any number of them. */
import { Stack, Text } from "@mantine/core";
import { indexed, nextIndexed } from "../../logic/creating";
import type { GuestKind } from "../../logic/propertyString";
import { NetForm } from "../properties/NetForm";
import { IndexedForms, type StepForm } from "./IndexedForms";

export function Interfaces({ kind, bridge, form }: { kind: GuestKind; bridge: string; form: StepForm }) {
  const names = indexed(form.values, "net");
  const next = nextIndexed(form.values, "net");
  const first =
    kind === "lxc" ? `name=eth${next.slice(3)},bridge=${bridge},ip=dhcp,ip6=auto` : `virtio,bridge=${bridge}`;
  return (
    <Stack>
      {names.length === 0 && <Text>It has no network.</Text>}
      <IndexedForms
        form={form}
        names={names}
        more={["Add an interface", next, first]}
        render={(option) => <NetForm kind={kind} {...option} />}
      />
    </Stack>
  );
}
