/** The same system as a container and as a VM, measured on this host. */
import { Alert, Anchor, Group, Select, Stack, Text } from "@mantine/core";
import { useState } from "react";
import { Asked } from "../../components/Asked";
import { Empty } from "../../components/Empty";
import { type Comparison, type Kept, useComparison, useKept } from "../../hooks/architect";
import { downloading } from "../../hooks/downloads";
import { moment } from "../../logic/units";
import { ArchitectFrame } from "./ArchitectFrame";
import { ComparisonFacts } from "./ComparisonFacts";
import { ComparisonTable } from "./ComparisonTable";
import { MeasureForm } from "./MeasureForm";

const when = (taken: string) => moment(Date.parse(taken) / 1000);

function titleOf(one: Kept): string {
  const how = [
    one.quick ? "quick" : `${one.runs} runs`,
    one.vm ? "" : "containers alone",
    one.emulated ? "emulated VM" : "",
  ];
  return `${when(one.taken)}, ${one.image} (${how.filter(Boolean).join(", ")})`;
}

export function ComparePage() {
  const kept = useKept();
  const [chosen, setChosen] = useState<string>();
  const taken = chosen ?? kept.data?.[0]?.taken;
  return (
    <ArchitectFrame
      title="Compare"
      about="The same Debian is made as a container and as a VM, started, measured and removed again. Advice and capacity take their costs from the newest result."
      actions={<MeasureForm onMeasured={() => setChosen(undefined)} />}
    >
      <Asked query={kept}>
        {(rows) =>
          rows.length === 0 ? (
            <Empty title="Nothing was measured on this host yet">
              <Text>
                Until then published figures of another machine are used. A quick measurement takes some minutes.
              </Text>
            </Empty>
          ) : (
            <Stack>
              <Select
                label="Comparison"
                maw={520}
                allowDeselect={false}
                data={rows.map((one) => ({ value: one.taken, label: titleOf(one) }))}
                value={taken ?? null}
                onChange={(next) => setChosen(next ?? undefined)}
              />
              <Shown taken={taken} />
            </Stack>
          )
        }
      </Asked>
    </ArchitectFrame>
  );
}

function Shown({ taken }: { taken: string | undefined }) {
  const comparison = useComparison(taken);
  return <Asked query={comparison}>{(found) => <Found comparison={found} />}</Asked>;
}

function Found({ comparison }: { comparison: Comparison }) {
  const chart = (format: string) =>
    `/api2/json/architect/compare/chart?${new URLSearchParams({ taken: comparison.taken, format })}`;
  return (
    <Stack>
      {comparison.vm?.emulated && (
        <Alert color="yellow" title="The VM was emulated: this host has no KVM">
          Its figures say nothing of VMs with KVM.
        </Alert>
      )}
      <ComparisonTable comparison={comparison} />
      <Group>
        <Text size="sm">As a picture:</Text>
        <Anchor {...downloading(chart("svg"), `comparison-${comparison.taken}.svg`)} size="sm">
          SVG
        </Anchor>
        <Anchor {...downloading(chart("png"), `comparison-${comparison.taken}.png`)} size="sm">
          PNG
        </Anchor>
      </Group>
      <ComparisonFacts comparison={comparison} />
    </Stack>
  );
}
