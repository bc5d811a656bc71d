/** API tokens: secrets with which programs come in. */
import { Alert, Button, Code, CopyButton, Group, Modal, Stack, Table, Text } from "@mantine/core";
import { useState } from "react";
import { ActionButton } from "../../components/ActionButton";
import { Asked } from "../../components/Asked";
import { Empty } from "../../components/Empty";
import { FormDialog } from "../../components/FormDialog";
import { WideTable } from "../../components/WideTable";
import { type UserRow, useUsers } from "../../hooks/access";
import { useUser } from "../../hooks/session";
import { addToken, expiries, removeToken } from "../../logic/access";
import { moment } from "../../logic/units";
import { AccessFrame } from "./AccessFrame";

interface Made {
  readonly name: string;
  readonly secret: string;
}

export function TokensPage() {
  const users = useUsers();
  const me = useUser();
  const [made, setMade] = useState<Made>();
  return (
    <AccessFrame
      title="API tokens"
      about="A program comes in with a token instead of a password. With separated privileges it may do only what it is permitted itself."
      actions={
        <FormDialog
          label="Make a token"
          title="Make a token"
          look={{}}
          operation={{ method: "POST", path: "/access/users/{userid}/token/{tokenid}" }}
          fields={[
            { name: "userid", label: "Whose", required: true, options: users.data?.map((row) => row.userid) ?? [me] },
            { name: "tokenid", label: "Name", required: true },
            { name: "expire", label: "Expires", options: expiries(Date.now() / 1000) },
            { name: "comment", lines: 1 },
            { name: "privsep", label: "Separated privileges", help: "Without, it may do all that its user may" },
          ]}
          initial={{ userid: me, privsep: "1" }}
          action={addToken}
          onDone={(done) => setMade(madeOf(done.answer))}
        />
      }
    >
      <Asked query={users}>{(rows) => <Rows rows={rows} />}</Asked>
      {made && <Secret made={made} onClose={() => setMade(undefined)} />}
    </AccessFrame>
  );
}

function madeOf(answer: unknown): Made {
  const { "full-tokenid": name, value: secret } = answer as { "full-tokenid": string; value: string };
  return { name, secret };
}

function Rows({ rows }: { rows: readonly UserRow[] }) {
  const tokens = rows.flatMap((user) => user.tokens.map((token) => ({ ...token, userid: user.userid })));
  if (tokens.length === 0) {
    return <Empty title="There are no tokens" />;
  }
  return (
    <WideTable label="API tokens" head={["Token", "May do", "Expires", "Comment", "Change"]} minWidth={620}>
      {tokens.map((token) => (
        <Table.Tr key={`${token.userid}!${token.tokenid}`}>
          <Table.Th scope="row">
            {token.userid}!{token.tokenid}
          </Table.Th>
          <Table.Td>{token.privsep ? "what it is permitted itself" : "all that its user may"}</Table.Td>
          <Table.Td className="figures">{token.expire ? moment(token.expire) : "never"}</Table.Td>
          <Table.Td>{token.comment}</Table.Td>
          <Table.Td>
            <ActionButton action={removeToken(token.userid, token.tokenid)} size="compact-sm" plain>
              Remove
            </ActionButton>
          </Table.Td>
        </Table.Tr>
      ))}
    </WideTable>
  );
}

function Secret({ made, onClose }: { made: Made; onClose: () => void }) {
  const text = `${made.name}=${made.secret}`;
  return (
    <Modal
      opened
      onClose={onClose}
      title="The token's secret"
      closeOnClickOutside={false}
      closeOnEscape={false}
      size="lg"
    >
      <Stack>
        <Alert color="yellow" role="alert">
          It is shown now and never again. Keep it where the program finds it.
        </Alert>
        <div>
          <Text size="sm" fw={600}>
            Secret
          </Text>
          <Code block className="wrapped" data-testid="secret">
            {made.secret}
          </Code>
        </div>
        <div>
          <Text size="sm" fw={600}>
            Header
          </Text>
          <Code block className="wrapped">
            Authorization: PVEAPIToken={text}
          </Code>
        </div>
        <Group justify="flex-end">
          <CopyButton value={made.secret}>
            {({ copied, copy }) => (
              <Button variant="default" onClick={copy} aria-label="Copy the secret">
                <span role="status">{copied ? "Copied" : "Copy the secret"}</span>
              </Button>
            )}
          </CopyButton>
          <Button onClick={onClose}>I have kept it</Button>
        </Group>
      </Stack>
    </Modal>
  );
}
