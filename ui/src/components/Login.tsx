import { Alert, Button, Group, Paper, PasswordInput, Select, Stack, TextInput, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useEffect, useRef, useState } from "react";
import { answer, api } from "../api/client";
import { ApiError, told } from "../api/errors";
import { arrival, leaveForProvider } from "../api/openid";
import { type LoginOutcome, login, loginByProvider } from "../api/session";
import { SecondStep } from "./SecondStep";

interface Realm {
  readonly realm: string;
  readonly type: string;
  readonly comment?: string;
  readonly default?: number;
}

function useRealms() {
  return useQuery({
    queryKey: ["realms"],
    queryFn: async () => (await answer(api.GET("/api2/json/access/domains"))) as Realm[],
    staleTime: Number.POSITIVE_INFINITY,
  });
}

/** The form; `username` (with its realm) is who was logged in before. */
export function Login({ username }: { username?: string }) {
  const realms = useRealms().data ?? [];
  const [name, setName] = useState(username ?? "");
  const [chosen, setChosen] = useState<string | null>(null);
  const [password, setPassword] = useState("");
  const [half, setHalf] = useState<{ challenge: string; username: string }>();
  const [failure, setFailure] = useState<string>();
  const [busy, setBusy] = useState(false);
  const first = useRef<HTMLInputElement>(null);
  const secret = useRef<HTMLInputElement>(null);
  const [bare, named] = split(
    name,
    realms.map((one) => one.realm),
  );
  const realm = named ?? chosen ?? (realms.find((one) => one.default) ?? realms[0])?.realm ?? "pam";
  const provider = realms.find((one) => one.realm === realm && one.type === "openid");
  useEffect(() => (username === undefined ? first : secret).current?.focus(), [username]);

  /** Make one step; what it comes to decides what is shown next. */
  async function step(make: () => Promise<LoginOutcome | undefined>, wrong: string): Promise<void> {
    setBusy(true);
    setFailure(undefined);
    try {
      const outcome = await make();
      if (outcome !== undefined && "challenge" in outcome) {
        setHalf({ challenge: outcome.challenge, username: outcome.username ?? `${bare}@${realm}` });
        setPassword("");
      }
    } catch (error) {
      setFailure(refusal(error, wrong));
      setPassword("");
      secret.current?.focus();
    } finally {
      setBusy(false);
    }
  }

  function submit(event: FormEvent): void {
    event.preventDefault();
    if (provider === undefined) {
      void step(() => login({ username: bare, realm, password }), WRONG);
    } else {
      void step(() => leaveForProvider(realm).then(() => undefined), NOT_TAKEN);
    }
  }

  // biome-ignore lint/correctness/useExhaustiveDependencies: what a provider sent the window back with is told once
  useEffect(() => {
    const back = arrival();
    if (back !== undefined && "refused" in back) {
      setFailure(back.refused);
    } else if (back !== undefined) {
      void step(() => loginByProvider(back.code, back.state), NOT_TAKEN);
    }
  }, []);

  if (half !== undefined) {
    const { challenge, username: whose } = half;
    const of = whose.slice(whose.lastIndexOf("@") + 1);
    return (
      <SecondStep
        framed={username === undefined}
        challenge={challenge}
        onAnswer={(factor) => login({ username: whose, realm: of, password: "", answer: { factor, challenge } })}
        onBack={() => setHalf(undefined)}
      />
    );
  }

  return (
    <Paper
      component="form"
      {...(username === undefined && { withBorder: true, p: "lg", maw: 380 })}
      w="100%"
      onSubmit={submit}
      aria-label="Log in"
    >
      <Stack>
        {username === undefined && (
          <Group gap="xs">
            <img src="/icon.svg" alt="" width={28} height={28} />
            <Title order={1} size="h2">
              Bastide
            </Title>
          </Group>
        )}
        {failure !== undefined && (
          <Alert color="red" role="alert">
            {failure}
          </Alert>
        )}
        {provider === undefined && (
          <>
            <TextInput
              label="User name"
              autoComplete="username"
              required
              ref={first}
              value={name}
              onChange={(event) => setName(event.currentTarget.value)}
            />
            <PasswordInput
              label="Password"
              autoComplete="current-password"
              required
              ref={secret}
              data-autofocus
              value={password}
              onChange={(event) => setPassword(event.currentTarget.value)}
            />
          </>
        )}
        <Select
          label="Realm"
          allowDeselect={false}
          data={realms.map((one) => ({ value: one.realm, label: one.comment ?? one.realm }))}
          value={realm}
          onChange={(now) => {
            setChosen(now);
            setName(bare);
          }}
        />
        <Button type="submit" loading={busy}>
          {provider === undefined ? "Log in" : `Log in at ${provider.comment ?? provider.realm}`}
        </Button>
      </Stack>
    </Paper>
  );
}

/** A name, and the realm after its last `@`, if there is one of that name: others have an `@` in their users' names. */
function split(name: string, realms: readonly string[]): [string, string | undefined] {
  const at = name.lastIndexOf("@");
  const realm = name.slice(at + 1);
  return at >= 0 && realms.includes(realm) ? [name.slice(0, at), realm] : [name, undefined];
}

/** The API does not tell which of them is wrong. */
const WRONG = "The user name, the password or the realm is wrong.";
const NOT_TAKEN = "Who has logged in at the provider may not come in here. The host's log says why.";

function refusal(error: unknown, wrong: string): string {
  return error instanceof ApiError && error.status === 401 ? wrong : told(error);
}
