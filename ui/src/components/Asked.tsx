/** What a query has come to: its answer, or why there is none, or that it is under way. */
import { Alert, Button, Group, Loader, Text } from "@mantine/core";
import type { UseQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { told } from "../api/errors";

export function Refusal({ error, retry }: { error: unknown; retry?: () => void }) {
  return (
    <Alert color="red" role="alert">
      <Group justify="space-between">
        <Text size="sm" className="lines">
          {told(error)}
        </Text>
        {retry && (
          <Button variant="default" size="compact-sm" onClick={retry}>
            Try again
          </Button>
        )}
      </Group>
    </Alert>
  );
}

interface Props<Data> {
  query: UseQueryResult<Data>;
  children: (data: Data) => ReactNode;
}

export function Asked<Data>({ query, children }: Props<Data>) {
  if (query.data !== undefined) {
    return <>{children(query.data)}</>;
  }
  if (query.error !== null) {
    return <Refusal error={query.error} retry={() => void query.refetch()} />;
  }
  return <Loader aria-label="Loading" />;
}
