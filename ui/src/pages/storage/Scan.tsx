/** Ask a server, or this host, what it has that could be a storage. */
import { Button, Group, Text } from "@mantine/core";
import { useState } from "react";
import { told } from "../../api/errors";
import { useDaemon } from "../../hooks/creating";
import { askScan } from "../../hooks/storage";
import { labelOf, type Values } from "../../logic/schema";
import { type ScanPlan, scanQuery } from "../../logic/storages";

interface Props {
  plan: ScanPlan;
  values: Values;
  onFound: (options: readonly string[]) => void;
}

export function Scan({ plan, values, onFound }: Props) {
  const node = useDaemon().data?.node ?? "localhost";
  const [said, setSaid] = useState("");
  const [busy, setBusy] = useState(false);
  const query = scanQuery(plan, values);

  async function look(): Promise<void> {
    setBusy(true);
    try {
      const rows = await askScan(node, plan.scan, query ?? {});
      const options = [...new Set(rows.map((row) => row[plan.key]).filter((one) => one !== undefined))];
      onFound(options);
      setSaid(options.length === 0 ? "Nothing was found." : `${options.length} found: choose one below.`);
    } catch (error) {
      setSaid(told(error));
    } finally {
      setBusy(false);
    }
  }

  const [first] = plan.needs;
  return (
    <Group gap="sm">
      <Button
        variant="default"
        size="compact-md"
        disabled={query === undefined}
        loading={busy}
        onClick={() => void look()}
      >
        Look what there is
      </Button>
      <Text size="sm" role="status" className="lines">
        {query === undefined && first !== undefined ? `Fill in first: ${labelOf(first)}.` : said}
      </Text>
    </Group>
  );
}
