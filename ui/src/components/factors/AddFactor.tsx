/** The forms by which a user gets a further second factor. */
import { Alert, Button, Code, CopyButton, Group, List, Loader, Stack, Text } from "@mantine/core";
import { lazy, Suspense, useMemo, useState } from "react";
import { told } from "../../api/errors";
import { makeCredential } from "../../api/keys";
import { type Done, useAct } from "../../hooks/actions";
import { addKey, addRecovery, addTotp, base32, otpauthUri } from "../../logic/factors";
import type { FieldSpec, Values } from "../../logic/schema";
import { challengeIn } from "../../logic/webauthn";
import { SchemaForm } from "../SchemaForm";

const QrCode = lazy(() => import("./QrCode"));

const operation = { method: "POST", path: "/access/tfa/{userid}" } as const;

interface Props {
  userid: string;
  /** The field for the own present password, where it is needed. */
  confirming: readonly FieldSpec[];
  onDone: () => void;
}

export function AddTotp({ userid, confirming, onDone }: Props) {
  const secret = useMemo(() => base32(crypto.getRandomValues(new Uint8Array(20))), []);
  const uri = otpauthUri(secret, userid, location.hostname);
  return (
    <Stack>
      <Group align="flex-start">
        <Suspense fallback={<Loader aria-label="Loading" />}>
          <QrCode text={uri} label="QR code for the app" />
        </Suspense>
        <Stack gap="xs" flex={1} miw={200}>
          <Text size="sm">Read the QR code with an app for one-time codes, or type the secret there.</Text>
          <Code style={{ overflowWrap: "anywhere" }}>{secret.replace(/(.{4})(?=.)/g, "$1 ")}</Code>
        </Stack>
      </Group>
      <SchemaForm
        operation={operation}
        fields={[
          { name: "description", help: "Such as the phone's name" },
          { name: "value", label: "Code that the app shows", required: true },
          ...confirming,
        ]}
        action={(values) => addTotp(userid, uri, values)}
        submit="Add"
        onDone={onDone}
      />
    </Stack>
  );
}

export function AddKey({ userid, confirming, onDone }: Props) {
  const act = useAct();
  const [failure, setFailure] = useState<string>();
  const [waiting, setWaiting] = useState(false);
  async function register({ answer }: Done, values: Values): Promise<void> {
    const { challenge: asked = "" } = answer as { challenge?: string };
    setWaiting(true);
    setFailure(undefined);
    try {
      const value = await makeCredential(asked);
      await act(addKey(userid, values, { challenge: challengeIn(asked), value }));
      onDone();
    } catch (error) {
      setFailure(told(error));
    } finally {
      setWaiting(false);
    }
  }
  return (
    <Stack>
      {failure !== undefined && (
        <Alert color="red" role="alert" className="lines">
          {failure}
        </Alert>
      )}
      {waiting && <Text role="status">Touch the security key when it blinks.</Text>}
      <SchemaForm
        operation={operation}
        fields={[{ name: "description", help: "Such as the key's colour" }, ...confirming]}
        action={(values) => addKey(userid, values)}
        submit="Go on"
        onDone={(done, values) => void register(done, values)}
      />
    </Stack>
  );
}

export function AddRecovery({ userid, confirming, onDone }: Props) {
  const [codes, setCodes] = useState<readonly string[]>();
  if (codes !== undefined) {
    return (
      <Stack>
        <Alert color="yellow">Keep these codes where the other factors are not: they are not shown again.</Alert>
        <List type="ordered" aria-label="Recovery codes">
          {codes.map((code) => (
            <List.Item key={code}>
              <Code>{code}</Code>
            </List.Item>
          ))}
        </List>
        <Group>
          <CopyButton value={codes.join("\n")}>
            {({ copied, copy }) => (
              <Button variant="default" onClick={copy}>
                <span role="status">{copied ? "Copied" : "Copy all codes"}</span>
              </Button>
            )}
          </CopyButton>
        </Group>
      </Stack>
    );
  }
  return (
    <SchemaForm
      operation={operation}
      fields={[...confirming]}
      action={(values) => addRecovery(userid, values)}
      submit="Make codes"
      onDone={({ answer }) => {
        setCodes((answer as { recovery: string[] }).recovery);
        onDone();
      }}
    >
      <Text size="sm">Ten codes, each good for one login, for when the phone or the key is lost.</Text>
    </SchemaForm>
  );
}
