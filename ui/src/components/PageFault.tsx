/** Shown in place of a page that met a fault of its own; the rest of the page stays. */
import { Alert, Button, Code, Group, Stack, Title } from "@mantine/core";
import { told } from "../api/errors";

export function PageFault({ error, reset }: { error: unknown; reset: () => void }) {
  return (
    <Stack>
      <Title order={1}>This did not work</Title>
      <Alert color="red" role="alert" title="The page met an error">
        <Code block className="wrapped">
          {told(error)}
        </Code>
      </Alert>
      <Group>
        <Button onClick={reset}>Try again</Button>
        <Button variant="default" onClick={() => location.reload()}>
          Load the page anew
        </Button>
      </Group>
    </Stack>
  );
}
