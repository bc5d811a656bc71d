import { Alert, Loader, Stack, Title } from "@mantine/core";
import { told } from "../../api/errors";

/** A page whose form waits for what it is made of. */
export function Loading({ title, error }: { title: string; error: Error | null }) {
  return (
    <Stack>
      <Title order={1}>{title}</Title>
      {error === null ? (
        <Loader aria-label="Loading" />
      ) : (
        <Alert color="red" role="alert">
          {told(error)}
        </Alert>
      )}
    </Stack>
  );
}
