/** The three ways to a new guest: side by side where there is room, else behind one button. */
import { ActionIcon, Button, Group, Menu } from "@mantine/core";
import { IconBox, IconDeviceDesktop, IconPlus, IconSparkles } from "@tabler/icons-react";
import { useRouter } from "@tanstack/react-router";
import { ways } from "./navigation";
import { RowLink } from "./RowLink";

const ICONS = { "/create/vm": IconDeviceDesktop, "/create/ct": IconBox, "/architect": IconSparkles } as const;

export function CreateButtons() {
  const router = useRouter();
  return (
    <>
      <Group gap="xs" wrap="nowrap" visibleFrom="md">
        {ways.map(({ to, label }) => {
          const Icon = ICONS[to];
          const variant = to === "/architect" ? "filled" : "default";
          return (
            <Button key={to} component={RowLink} to={to} size="sm" variant={variant} leftSection={<Icon size={16} />}>
              {label}
            </Button>
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
              <Menu.Item key={to} leftSection={<Icon size={16} />} onClick={() => router.history.push(to)}>
                {label}
              </Menu.Item>
            );
          })}
        </Menu.Dropdown>
      </Menu>
    </>
  );
}
