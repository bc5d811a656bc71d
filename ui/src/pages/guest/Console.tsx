/** A guest's console: the terminal of a CT, the screen and the serial ports of a VM. */
import { Center, Loader, SegmentedControl, Stack, Text } from "@mantine/core";
import { lazy, Suspense, useState } from "react";
import { ActionButton } from "../../components/ActionButton";
import { useConfig, useStatus } from "../../hooks/guest";
import type { GuestRow } from "../../hooks/resources";
import { type Display, displaysOf, hasClipboard } from "../../logic/displays";
import { kindOf, nameOf, start } from "../../logic/guestActions";

const Terminal = lazy(async () => ({ default: (await import("../../components/Terminal")).Terminal }));
const Screen = lazy(async () => ({ default: (await import("../../components/Screen")).Screen }));

export function Console({ guest }: { guest: GuestRow }) {
  if (guest.template) {
    return <Text>A template never runs, so it has no console.</Text>;
  }
  if (guest.status !== "running") {
    return (
      <Stack align="flex-start">
        <Text>
          {kindOf(guest)} {nameOf(guest)} does not run. Its console is there once it does.
        </Text>
        <ActionButton action={start(guest)} variant="filled" />
      </Stack>
    );
  }
  return <Running guest={guest} />;
}

function Running({ guest }: { guest: GuestRow }) {
  const config = useConfig(guest);
  const [chosen, setChosen] = useState<Display>();
  if (config.isPending) {
    return <Waiting />;
  }
  const displays = displaysOf(guest.type, config.data ?? {});
  const shown = chosen !== undefined && displays.includes(chosen) ? chosen : (displays[0] ?? "screen");
  return (
    <Stack gap="xs">
      {displays.length > 1 && (
        <SegmentedControl
          aria-label="Console"
          data={displays.map((one) => ({ value: one, label: LABELS[one] }))}
          value={shown}
          onChange={(value) => setChosen(value)}
          style={{ alignSelf: "flex-start" }}
        />
      )}
      <Suspense fallback={<Waiting />}>
        <Shown key={shown} guest={guest} display={shown} clipboard={hasClipboard(config.data ?? {})} />
      </Suspense>
    </Stack>
  );
}

const LABELS: Readonly<Record<Display, string>> = {
  terminal: "Terminal",
  screen: "Screen",
  serial0: "Serial 0",
  serial1: "Serial 1",
  serial2: "Serial 2",
  serial3: "Serial 3",
};

function Shown({ guest, display, clipboard }: { guest: GuestRow; display: Display; clipboard: boolean }) {
  const boot = useStatus(guest).data?.pid;
  const label = `${LABELS[display]} of ${nameOf(guest)}`;
  if (display === "screen") {
    return <Screen guest={guest} label={label} boot={boot} clipboard={clipboard} />;
  }
  return <Terminal guest={guest} label={label} boot={boot} serial={display === "terminal" ? undefined : display} />;
}

function Waiting() {
  return (
    <Center p="xl">
      <Loader aria-label="Loading" />
    </Center>
  );
}
