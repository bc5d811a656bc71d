import { Alert, Button, Paper, PasswordInput, Select, Stack, TextInput, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { answer, api } from "../api/client";
import { told } from "../api/errors";
import { login } from "../api/session";

interface Realm {
  readonly realm: string;
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
  const [before, realmBefore] = username === undefined ? ["", null] : split(username);
  const [name, setName] = useState(before);
  const [chosen, setChosen] = useState<string | null>(realmBefore);
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const [challenge, setChallenge] = useState<string>();
  const [failure, setFailure] = useState<string>();
  const [busy, setBusy] = useState(false);
  const realm = chosen ?? (realms.find((one) => one.default) ?? realms[0])?.realm ?? "pam";

  async function submit(event: FormEvent): Promise<void> {
    event.preventDefault();
    setBusy(true);
    setFailure(undefined);
    try {
      const second = challenge === undefined ? {} : { answer: { factor: `totp:${code.trim()}`, challenge } };
      const outcome = await login({ username: name, realm, password, ...second });
      if ("challenge" in outcome) {
        setChallenge(outcome.challenge);
      }
    } catch (error) {
      setFailure(told(error));
      setChallenge(undefined);
      setCode("");
    } finally {
      setBusy(false);
    }
  }

  return (
    <Paper component="form" withBorder p="lg" w="100%" maw={380} onSubmit={submit} aria-label="Log in">
      <Stack>
        <Title order={1} size="h2">
          Bastide
        </Title>
        {failure !== undefined && (
          <Alert color="red" role="alert">
            {failure}
          </Alert>
        )}
        {challenge === undefined ? (
          <>
            <TextInput
              label="User name"
              autoComplete="username"
              required
              data-autofocus
              value={name}
              onChange={(event) => setName(event.currentTarget.value)}
            />
            <PasswordInput
              label="Password"
              autoComplete="current-password"
              required
              value={password}
              onChange={(event) => setPassword(event.currentTarget.value)}
            />
            <Select
              label="Realm"
              allowDeselect={false}
              data={realms.map((one) => ({ value: one.realm, label: one.comment ?? one.realm }))}
              value={realm}
              onChange={setChosen}
            />
          </>
        ) : (
          <TextInput
            label="Code of your second factor"
            autoComplete="one-time-code"
            inputMode="numeric"
            required
            data-autofocus
            value={code}
            onChange={(event) => setCode(event.currentTarget.value)}
          />
        )}
        <Button type="submit" loading={busy}>
          Log in
        </Button>
      </Stack>
    </Paper>
  );
}

function split(username: string): [string, string] {
  const at = username.lastIndexOf("@");
  return [username.slice(0, at), username.slice(at + 1)];
}
