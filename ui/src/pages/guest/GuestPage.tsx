/** One guest: who it is, what can be done with it, and its tabs. */
import { Anchor, Center, Loader, ScrollArea, Stack, Tabs, Text, Title } from "@mantine/core";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { Suspense, useEffect, useRef } from "react";
import { type GuestRow, useGuests } from "../../hooks/resources";
import { GuestHeader } from "./GuestHeader";
import { PendingNotice } from "./PendingNotice";
import { TABS } from "./tabs";

export function GuestPage() {
  const { vmid, tab } = useParams({ from: "/guests/$vmid/$tab" });
  const guests = useGuests();
  const guest = guests.data?.find((row) => row.vmid === Number(vmid));
  if (guest !== undefined) {
    return <Guest key={guest.vmid} guest={guest} tab={tab} />;
  }
  return guests.isPending ? <Waiting /> : <NoGuest vmid={vmid} />;
}

function Guest({ guest, tab }: { guest: GuestRow; tab: string }) {
  const navigate = useNavigate();
  const tabs = TABS[guest.type];
  const shown = tabs.find((one) => one.name === tab);
  const list = useRef<HTMLDivElement>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: where it is narrow, another tab may be out of sight
  useEffect(() => {
    list.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ inline: "center", block: "nearest" });
  }, [tab]);
  return (
    <Stack gap="md">
      <GuestHeader guest={guest} />
      <PendingNotice guest={guest} />
      <Tabs
        value={shown?.name ?? null}
        keepMounted={false}
        activateTabWithKeyboard={false}
        onChange={(name) => void navigate({ to: `/guests/${guest.vmid}/${name}` })}
      >
        <ScrollArea type="auto" offsetScrollbars="x" scrollbarSize={6}>
          <Tabs.List ref={list} aria-label="Parts of the guest" style={{ flexWrap: "nowrap" }}>
            {tabs.map((one) => (
              <Tabs.Tab key={one.name} value={one.name} px="sm">
                {one.label}
              </Tabs.Tab>
            ))}
          </Tabs.List>
        </ScrollArea>
        {shown === undefined ? (
          <Text pt="md">There is nothing at this address.</Text>
        ) : (
          <Tabs.Panel value={shown.name} pt="md">
            <Suspense fallback={<Waiting />}>
              <shown.Content guest={guest} />
            </Suspense>
          </Tabs.Panel>
        )}
      </Tabs>
    </Stack>
  );
}

function Waiting() {
  return (
    <Center p="xl">
      <Loader aria-label="Loading" />
    </Center>
  );
}

function NoGuest({ vmid }: { vmid: string }) {
  return (
    <Stack>
      <Title order={1}>No guest {vmid}</Title>
      <Text>There is no guest {vmid}, or you may not see it.</Text>
      <Anchor component={Link} to="/">
        Go to the overview
      </Anchor>
    </Stack>
  );
}
