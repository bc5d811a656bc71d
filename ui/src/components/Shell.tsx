/** The frame of every page: header, places and tree, the page itself, tasks. */
import { Alert, AppShell } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { Outlet, useRouterState } from "@tanstack/react-router";
import { useEffect } from "react";
import { useConnected, useEvents } from "../hooks/events";
import { Header } from "./Header";
import { Notices } from "./Notices";
import { Places } from "./Places";
import { Search } from "./Search";
import classes from "./Shell.module.css";
import { TaskDrawer } from "./TaskDrawer";
import { Tree } from "./Tree";
import { useArrival } from "./useArrival";

const BAR = 37;
const DRAWER = 280;

export function Shell() {
  useEvents();
  useArrival();
  const [opened, { toggle, close }] = useDisclosure();
  const [tasksOpened, tasks] = useDisclosure();
  const place = useRouterState({ select: (state) => state.location.pathname });
  // biome-ignore lint/correctness/useExhaustiveDependencies: whoever has gone somewhere wants to see it
  useEffect(close, [place]);
  return (
    <AppShell
      header={{ height: 52 }}
      navbar={{ width: 280, breakpoint: "sm", collapsed: { mobile: !opened } }}
      footer={{ height: tasksOpened ? `min(${DRAWER}px, 50vh)` : BAR }}
      padding={{ base: "sm", sm: "md" }}
      transitionDuration={0}
    >
      <a className={classes.skip} href="#main">
        Skip to the content
      </a>
      <AppShell.Header>
        <Header opened={opened} onToggle={toggle} />
      </AppShell.Header>
      <AppShell.Navbar p="sm" aria-label="Navigation" className={classes.navbar} data-opened={opened || undefined}>
        <Places />
        <Tree />
      </AppShell.Navbar>
      <AppShell.Main id="main" tabIndex={-1}>
        <Lost />
        <Outlet />
      </AppShell.Main>
      <AppShell.Footer>
        <TaskDrawer opened={tasksOpened} onToggle={tasks.toggle} />
      </AppShell.Footer>
      <Search />
      <Notices />
    </AppShell>
  );
}

function Lost() {
  const connected = useConnected();
  return (
    <div role="status">
      {!connected && (
        <Alert color="yellow" mb="md">
          The connection to the host is lost. What you see may be out of date; the page comes back by itself.
        </Alert>
      )}
    </div>
  );
}
