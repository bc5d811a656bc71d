/** The second step of a login: one of the factors that the user has. */
import { Alert, Button, Group, Paper, SegmentedControl, Stack, Text, TextInput, Title } from "@mantine/core";
import { type FormEvent, useEffect, useRef, useState } from "react";
import { ApiError, told } from "../api/errors";
import { askCredential, hasKeys } from "../api/keys";
import { type Challenge, challengeOf, codesLeft, FACTOR_NAMES, type FactorKind, kindsOf } from "../logic/factors";

interface Props {
  challenge: string;
  /** Raises ApiError when the answer is wrong. */
  onAnswer: (factor: string) => Promise<unknown>;
  onBack: () => void;
  framed: boolean;
}

export function SecondStep({ challenge, onAnswer, onBack, framed }: Props) {
  const asked = challengeOf(challenge);
  const kinds = kindsOf(asked);
  const [kind, setKind] = useState<FactorKind | undefined>(
    kinds.find((one) => one !== "webauthn" || hasKeys()) ?? kinds[0],
  );
  const [code, setCode] = useState("");
  const [failure, setFailure] = useState<string>();
  const [busy, setBusy] = useState(false);

  async function submit(event: FormEvent): Promise<void> {
    event.preventDefault();
    setBusy(true);
    setFailure(undefined);
    try {
      await onAnswer(await answerOf(asked, kind, code));
    } catch (error) {
      setFailure(refusal(error));
      setCode("");
    } finally {
      setBusy(false);
    }
  }

  return (
    <Paper
      component="form"
      {...(framed && { withBorder: true, p: "lg", maw: 380 })}
      w="100%"
      onSubmit={submit}
      aria-label="Second factor"
    >
      <Stack>
        <Title order={framed ? 1 : 2} size="h3">
          Second factor
        </Title>
        {failure !== undefined && (
          <Alert color="red" role="alert">
            {failure}
          </Alert>
        )}
        {kinds.length > 1 && (
          <SegmentedControl
            orientation="vertical"
            fullWidth
            aria-label="Which second factor"
            data={kinds.map((one) => ({ value: one, label: FACTOR_NAMES[one] }))}
            value={kind as string}
            onChange={(next) => {
              setKind(next as FactorKind);
              setCode("");
            }}
          />
        )}
        {kind === undefined ? (
          <Text>
            None of your second factors can be used: they are locked after too many wrong answers, or belong to another
            address of this page. An administrator can unlock or remove them.
          </Text>
        ) : (
          <Question kind={kind} asked={asked} code={code} onCode={setCode} key={kind} />
        )}
        <Group justify="space-between" wrap="nowrap">
          <Button variant="default" onClick={onBack}>
            Back
          </Button>
          {kind !== undefined && (
            <Button type="submit" loading={busy}>
              {kind === "webauthn" ? "Use security key" : "Log in"}
            </Button>
          )}
        </Group>
      </Stack>
    </Paper>
  );
}

interface QuestionProps {
  kind: FactorKind;
  asked: Challenge;
  code: string;
  onCode: (code: string) => void;
}

function Question({ kind, asked, code, onCode }: QuestionProps) {
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), []);
  if (kind === "webauthn") {
    return <Text>Have the security key ready, and touch it when it blinks.</Text>;
  }
  const recovery = kind === "recovery";
  return (
    <TextInput
      label={recovery ? "Recovery code" : "Code of your app"}
      {...(recovery && { description: `Unused: ${codesLeft(asked.recovery ?? [])}` })}
      autoComplete={recovery ? "off" : "one-time-code"}
      {...(!recovery && { inputMode: "numeric" })}
      spellCheck={false}
      required
      ref={input}
      data-autofocus
      value={code}
      onChange={(event) => onCode(event.currentTarget.value)}
    />
  );
}

async function answerOf(asked: Challenge, kind: FactorKind | undefined, code: string): Promise<string> {
  if (kind === "webauthn") {
    return `webauthn:${await askCredential(asked.webauthn?.publicKey ?? {})}`;
  }
  return `${kind}:${code.trim()}`;
}

/** The API does not tell which of them it is. */
function refusal(error: unknown): string {
  return error instanceof ApiError && error.status === 401
    ? "That is not right, was used before, or comes too late or too often. Wait for the next code, or go back."
    : told(error);
}
