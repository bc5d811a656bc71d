/** Who is logged in, how the page looks, and the way out. */
import { Button, Menu, Text, useMantineColorScheme } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconDeviceDesktop, IconKey, IconLogout, IconMoon, IconSun, IconUser } from "@tabler/icons-react";
import { logout } from "../api/session";
import { tellFailure } from "../hooks/actions";
import { useUser } from "../hooks/session";
import { FactorsDialog } from "./factors/FactorsDialog";

const SCHEMES = [
  { value: "light", label: "Light", icon: IconSun },
  { value: "dark", label: "Dark", icon: IconMoon },
  { value: "auto", label: "As the system has it", icon: IconDeviceDesktop },
] as const;

function refused(error: unknown): void {
  tellFailure("Log out", error);
}

export function UserMenu() {
  const user = useUser();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const [opened, { open, close }] = useDisclosure();
  return (
    <>
      <Menu position="bottom-end" width={230} withinPortal>
        <Menu.Target>
          <Button variant="default" size="sm" px={10} aria-label={`${user}: appearance and log out`}>
            <IconUser size={16} />
            <Text span size="sm" ml={6} visibleFrom="lg" maw={140} truncate>
              {user}
            </Text>
          </Button>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Label>{user}</Menu.Label>
          {SCHEMES.map(({ value, label, icon: Icon }) => (
            <Menu.Item
              key={value}
              role="menuitemradio"
              aria-checked={colorScheme === value}
              leftSection={<Icon size={16} />}
              rightSection={colorScheme === value ? "✓" : undefined}
              onClick={() => setColorScheme(value)}
            >
              {label}
            </Menu.Item>
          ))}
          <Menu.Divider />
          <Menu.Item leftSection={<IconKey size={16} />} onClick={open}>
            Second factors
          </Menu.Item>
          <Menu.Item leftSection={<IconLogout size={16} />} onClick={() => logout().catch(refused)}>
            Log out
          </Menu.Item>
        </Menu.Dropdown>
      </Menu>
      <FactorsDialog own userid={user} opened={opened} onClose={close} />
    </>
  );
}
