/** Whether what is shown is live. */
import { Box, Tooltip } from "@mantine/core";
import { IconPlugConnected, IconPlugConnectedX } from "@tabler/icons-react";
import { useConnected } from "../hooks/events";

export function Connection() {
  const connected = useConnected();
  const words = connected ? "Live: changes are shown as they happen" : "Not connected: trying again";
  const Icon = connected ? IconPlugConnected : IconPlugConnectedX;
  return (
    <Tooltip label={words}>
      <Box role="img" aria-label={words} lh={0} c={connected ? "dimmed" : "red"}>
        <Icon size={18} />
      </Box>
    </Tooltip>
  );
}
