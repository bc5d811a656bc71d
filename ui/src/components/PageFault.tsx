/** Shown in place of a page that met a fault of its own, or did not come; the rest of the page stays. */
import { Alert, Button, Code, Group, Stack, Text, Title } from "@mantine/core";
import { useEffect, useState } from "react";
import { told } from "../api/errors";
import { isMissing, loadAnew } from "../api/parts";
import { useConnected } from "../hooks/events";

export function PageFault({ error, reset }: { error: unknown; reset: () => void }) {
  if (isMissing(error)) {
    return <Missing why={told(error)} />;
  }
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

/** A part that did not come is not asked for again by every browser: the whole page is loaded, once the host answers. */
function Missing({ why }: { why: string }) {
  const connected = useConnected();
  const [busy, setBusy] = useState(false);
  const [tried, setTried] = useState(0);
  useEffect(() => {
    if (connected) {
      void loadAnew({ unasked: true });
    }
  }, [connected]);
  async function tryAgain(): Promise<void> {
    setBusy(true);
    if (!(await loadAnew())) {
      setTried(tried + 1);
      setBusy(false);
    }
  }
  return (
    <Stack align="flex-start">
      <Title order={1}>Not loaded</Title>
      <Alert color="yellow" role="alert">
        {why}
      </Alert>
      <Button loading={busy} onClick={() => void tryAgain()}>
        Try again
      </Button>
      <div role="status">
        {tried > 0 && !busy && <Text>The host does not answer. Tried {tried === 1 ? "once" : `${tried} times`}.</Text>}
      </div>
    </Stack>
  );
}
