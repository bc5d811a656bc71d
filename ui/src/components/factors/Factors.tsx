/** A user's second factors, one's own or another's: what there is, and what is added, changed and removed. */
import { Button, Group, Stack, Table, Text } from "@mantine/core";
import { useState } from "react";
import { useFactors } from "../../hooks/factors";
import { useUser } from "../../hooks/session";
import { changeFactor, FACTOR_NAMES, type FactorKind, type FactorRow, removeFactor } from "../../logic/factors";
import type { FieldSpec } from "../../logic/schema";
import { moment } from "../../logic/units";
import { Asked } from "../Asked";
import { FormDialog } from "../FormDialog";
import { WideTable } from "../WideTable";
import { AddKey, AddRecovery, AddTotp } from "./AddFactor";

const FORMS = { totp: AddTotp, webauthn: AddKey, recovery: AddRecovery } as const;
const ADDING: readonly (readonly [FactorKind, string])[] = [
  ["totp", "Add codes of an app"],
  ["webauthn", "Add security key"],
  ["recovery", "Make recovery codes"],
];

const PASSWORD: FieldSpec = { name: "password", label: "Your own present password", secret: true, required: true };

export default function Factors({ userid }: { userid: string }) {
  const [adding, setAdding] = useState<FactorKind>();
  const [made, setMade] = useState(false);
  const factors = useFactors(userid);
  const confirming = useUser() === "root@pam" ? [] : [PASSWORD];
  const Form = adding && FORMS[adding];
  if (Form !== undefined) {
    return (
      <Stack>
        <Form
          userid={userid}
          confirming={confirming}
          onDone={() => (adding === "recovery" ? setMade(true) : setAdding(undefined))}
        />
        <Group>
          <Button
            variant="default"
            onClick={() => {
              setAdding(undefined);
              setMade(false);
            }}
          >
            {made ? "Done" : "Back to the list"}
          </Button>
        </Group>
      </Stack>
    );
  }
  return (
    <Stack>
      <Asked query={factors}>{(rows) => <Rows userid={userid} rows={rows} confirming={confirming} />}</Asked>
      <Group gap="xs">
        {ADDING.map(([kind, label]) => (
          <Button
            key={kind}
            variant="default"
            disabled={kind === "recovery" && (factors.data ?? []).some((row) => row.type === "recovery")}
            onClick={() => setAdding(kind)}
          >
            {label}
          </Button>
        ))}
      </Group>
    </Stack>
  );
}

interface RowsProps {
  userid: string;
  rows: readonly FactorRow[];
  confirming: readonly FieldSpec[];
}

function Rows({ userid, rows, confirming }: RowsProps) {
  if (rows.length === 0) {
    return <Text>There are none: the password alone is enough to log in.</Text>;
  }
  return (
    <WideTable label="Second factors" head={["Type", "Description", "State", "Added", "Change"]} minWidth={560}>
      {rows.map((row) => (
        <Table.Tr key={row.id}>
          <Table.Th scope="row">{FACTOR_NAMES[row.type]}</Table.Th>
          <Table.Td>{row.description}</Table.Td>
          <Table.Td>{row.enable === 0 ? "disabled" : "enabled"}</Table.Td>
          <Table.Td className="figures">{moment(row.created)}</Table.Td>
          <Table.Td>
            <Changes userid={userid} row={row} confirming={confirming} />
          </Table.Td>
        </Table.Tr>
      ))}
    </WideTable>
  );
}

const small = { variant: "default", size: "compact-sm" } as const;

function Changes({ userid, row, confirming }: { userid: string; row: FactorRow; confirming: readonly FieldSpec[] }) {
  const name = removeFactor(userid, row).title;
  return (
    <Group gap={4} wrap="nowrap">
      {row.type !== "recovery" && (
        <FormDialog
          label="Edit"
          title={name.replace("Remove", "Change")}
          look={small}
          operation={{ method: "PUT", path: "/access/tfa/{userid}/{id}" }}
          fields={["description", { name: "enable", label: "Asked for at the login" }, ...confirming]}
          initial={{ description: row.description, enable: String(row.enable) }}
          action={(values) => changeFactor(userid, row.id, values)}
          submit="Save"
        />
      )}
      <FormDialog
        label="Remove"
        title={name}
        look={{ ...small, color: "red", variant: "outline" }}
        operation={{ method: "DELETE", path: "/access/tfa/{userid}/{id}" }}
        fields={[...confirming]}
        action={(values) => removeFactor(userid, row, values)}
        submit="Remove"
      >
        <Text size="sm">It cannot be used to log in any more. After the last one, the password alone is enough.</Text>
      </FormDialog>
    </Group>
  );
}
