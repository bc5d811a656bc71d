/** The texts as cloud-init in a VM reads them. */
import { Alert, Box, Code, SegmentedControl, Stack, Text, Title } from "@mantine/core";
import { useState } from "react";
import { told } from "../../api/errors";
import { useToldText } from "../../hooks/cloudInit";
import type { GuestRow } from "../../hooks/resources";
import { withoutSecrets } from "../../logic/cloudInit";

type Told = "user" | "network" | "meta";

export function ToldTexts({ guest }: { guest: GuestRow }) {
  const [type, setType] = useState<Told>("user");
  const { data, error } = useToldText(guest, type);
  return (
    <Stack component="section" aria-labelledby="told-texts" gap="xs">
      <Title order={2} size="h4" id="told-texts">
        What the guest reads
      </Title>
      <SegmentedControl
        aria-label="Text shown"
        w="fit-content"
        data={[
          { value: "user", label: "User data" },
          { value: "network", label: "Network" },
          { value: "meta", label: "Meta data" },
        ]}
        value={type}
        onChange={(value) => setType(value as Told)}
      />
      {error !== null && (
        <Alert color="yellow" role="status">
          {told(error)}
        </Alert>
      )}
      {data !== undefined && (
        <Box tabIndex={0} role="region" aria-label="Text for cloud-init" mah={420} style={{ overflow: "auto" }}>
          <Code block>{withoutSecrets(data)}</Code>
        </Box>
      )}
      <Text size="xs" c="dimmed">
        Passwords are not shown.
      </Text>
    </Stack>
  );
}
