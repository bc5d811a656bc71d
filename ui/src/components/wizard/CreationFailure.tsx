/** What went wrong while a guest was made, and where to see more of it. */
import { Anchor, Group, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { CreationState } from "../../hooks/creation";

export function creationFailure(state: CreationState, vmid: string | undefined) {
  return state.failure === undefined ? undefined : <CreationFailure state={state} vmid={vmid} />;
}

function CreationFailure({ state, vmid }: { state: CreationState; vmid: string | undefined }) {
  const lines = Object.entries(state.errors).map(([name, why]) => `${name}: ${why}`);
  return (
    <>
      <Text className="lines">{[state.failure, ...lines].join("\n")}</Text>
      <Group gap="md">
        {state.made && (
          <Anchor component={Link} to={`/guests/${vmid}/summary`}>
            The guest is there: see it
          </Anchor>
        )}
        {state.upid !== undefined && (
          <Anchor component={Link} to={`/tasks/${encodeURIComponent(state.upid)}`}>
            What the task said
          </Anchor>
        )}
      </Group>
    </>
  );
}
