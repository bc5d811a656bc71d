/** The last step: what will be called, to be read, copied and done. */
import { Box, Fieldset, Stack, Switch, Table } from "@mantine/core";
import { type Action, pairs } from "../../logic/actions";
import type { CreationStep } from "../../logic/creating";
import { CopyTexts } from "../CopyAs";

const SECRETS = ["password", "cipassword"];

export interface ConfirmProps {
  steps: readonly CreationStep[];
  start: boolean;
  onStart: (start: boolean) => void;
}

export function Confirm({ steps, start, onStart }: ConfirmProps) {
  return (
    <Stack>
      <Switch
        label="Start it when it is made"
        checked={start}
        onChange={(event) => onStart(event.currentTarget.checked)}
      />
      {steps.map(({ action }, index) => (
        <Fieldset key={action.path} legend={steps.length > 1 ? `${index + 1}. ${action.title}` : action.title}>
          <Stack>
            <Sent action={action} />
            <CopyTexts action={action} />
          </Stack>
        </Fieldset>
      ))}
    </Stack>
  );
}

function Sent({ action }: { action: Action }) {
  const rows = pairs(action.parameters);
  if (rows.length === 0) {
    return null;
  }
  return (
    <Box>
      <Table aria-label={`Parameters of ${action.title}`} layout="fixed">
        <Table.Thead>
          <Table.Tr>
            <Table.Th w="30%">Parameter</Table.Th>
            <Table.Th>Value</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.map(([name, value]) => (
            <Table.Tr key={name}>
              <Table.Td className="wrapped">{name}</Table.Td>
              <Table.Td className="wrapped">{SECRETS.includes(name) ? "(as typed)" : value}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Box>
  );
}
