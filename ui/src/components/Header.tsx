/** The head of every page: the way home, search, the ways to a new guest, the user. */
import { ActionIcon, Burger, Group, Kbd, Text, UnstyledButton } from "@mantine/core";
import { spotlight } from "@mantine/spotlight";
import { IconSearch } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { Connection } from "./Connection";
import { CreateButtons } from "./CreateButtons";
import classes from "./Shell.module.css";
import { UserMenu } from "./UserMenu";

interface Props {
  opened: boolean;
  onToggle: () => void;
}

export function Header({ opened, onToggle }: Props) {
  return (
    <Group h="100%" px="md" gap="sm" justify="space-between" wrap="nowrap">
      <Group gap="sm" wrap="nowrap">
        <Burger
          opened={opened}
          onClick={onToggle}
          hiddenFrom="sm"
          size="sm"
          aria-label="Navigation"
          aria-expanded={opened}
        />
        <Text component={Link} to="/" fw={700} td="none" c="inherit" className={classes.home}>
          <img src="/icon.svg" alt="" width={22} height={22} />
          Bastide
        </Text>
      </Group>
      <UnstyledButton
        onClick={spotlight.open}
        visibleFrom="sm"
        className={classes.search}
        aria-keyshortcuts="Control+K"
      >
        <IconSearch size={16} />
        <span className={classes.searchText}>Search or do</span>
        <Kbd size="xs">Ctrl+K</Kbd>
      </UnstyledButton>
      <Group gap="xs" wrap="nowrap">
        <ActionIcon variant="default" size={36} hiddenFrom="sm" aria-label="Search" onClick={spotlight.open}>
          <IconSearch size={18} />
        </ActionIcon>
        <CreateButtons />
        <Connection />
        <UserMenu />
      </Group>
    </Group>
  );
}
