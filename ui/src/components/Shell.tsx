/** The frame of every page: header, tree, the place of the page itself. */
import { Alert, AppShell, Burger, Button, Group, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { Link, Outlet } from "@tanstack/react-router";
import { logout } from "../api/session";
import { useConnected, useEvents } from "../hooks/events";
import { useUser } from "../hooks/session";

export function Shell() {
  useEvents();
  const [opened, { toggle }] = useDisclosure();
  const connected = useConnected();
  const user = useUser();
  return (
    <AppShell header={{ height: 52 }} navbar={{ width: 280, breakpoint: "sm", collapsed: { mobile: !opened } }} padding="md">
      <AppShell.Header>
        <Group h="100%" px="md" justify="space-between" wrap="nowrap">
          <Group gap="sm" wrap="nowrap">
            <Burger opened={opened} onClick={toggle} hiddenFrom="sm" size="sm" aria-label="Navigation" />
            <Text component={Link} to="/" fw={700} td="none" c="inherit">
              Bastide
            </Text>
          </Group>
          <Group gap="sm" wrap="nowrap">
            <Text size="sm">{user}</Text>
            <Button variant="default" size="compact-sm" onClick={() => void logout()}>
              Log out
            </Button>
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="sm" aria-label="Navigation" />
      <AppShell.Main>
        {!connected && (
          <Alert color="yellow" role="status" mb="md">
            The connection to the host is lost. What you see may be out of date; the page comes back by itself.
          </Alert>
        )}
        <Outlet />
      </AppShell.Main>
    </AppShell>
  );
}
