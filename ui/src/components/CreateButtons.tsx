/** The three ways to a new guest: side by side where there is room, else behind one button. */
import { ActionIcon, Button, Group, Menu } from "@mantine/core";
import { IconBox, IconDeviceDesktop, IconPlus, IconSparkles } from "@tabler/icons-react";
import { useRouter } from "@tanstack/react-router";
import { useLacking } from "../hooks/rights";
import type { Wanted } from "../logic/rights";
import { Denied } from "./Denied";
import { ways } from "./navigation";
import { RowLink } from "./RowLink";

const ICONS = { "/create/vm": IconDeviceDesktop, "/create/ct": IconBox, "/architect": IconSparkles } as const;

/** The call that a way ends with; what the architect only advises needs nothing. */
const MAKES: Readonly<Partial<Record<keyof typeof ICONS, Wanted>>> = {
  "/create/vm": { method: "POST", path: "/nodes/{node}/qemu" },
  "/create/ct": { method: "POST", path: "/nodes/{node}/lxc" },
};

export function CreateButtons() {
  const router = useRouter();
  const lacking = useLacking();
  const lacks = (to: keyof typeof ICONS) => MAKES[to] && lacking(MAKES[to]);
  return (
    <>
      <Group gap="xs" wrap="nowrap" visibleFrom="md">
        {ways.map(({ to, label }) => {
          const Icon = ICONS[to];
          const variant = to === "/architect" ? "filled" : "default";
          return (
            <Denied key={to} lacks={lacks(to)}>
              <Button component={RowLink} to={to} size="sm" variant={variant} leftSection={<Icon size={16} />}>
                {label}
              </Button>
            </Denied>
          );
        })}
      </Group>
      <Menu position="bottom-end" withinPortal>
        <Menu.Target>
          <ActionIcon size={36} hiddenFrom="md" aria-label="Create a guest">
            <IconPlus size={18} />
          </ActionIcon>
        </Menu.Target>
        <Menu.Dropdown>
          {ways.map(({ to, label }) => {
            const Icon = ICONS[to];
            return (
              <Denied key={to} lacks={lacks(to)}>
                <Menu.Item leftSection={<Icon size={16} />} onClick={() => router.history.push(to)}>
                  {label}
                </Menu.Item>
              </Denied>
            );
          })}
        </Menu.Dropdown>
      </Menu>
    </>
  );
}
