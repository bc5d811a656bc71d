/** Says which storages gave no answer: what is on them is missing from a list. */
import { Alert } from "@mantine/core";

export function SilentStorages({ silent }: { silent: readonly { readonly storage: string; readonly why: string }[] }) {
  if (silent.length === 0) {
    return null;
  }
  return (
    <Alert color="yellow" role="status" title="Not all storages answer" className="lines">
      {silent.map(({ storage, why }) => `${storage}: ${why}`).join("\n")}
    </Alert>
  );
}
