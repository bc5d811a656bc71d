/** Search and command palette, by Ctrl+K: guests, storages, places, and what can be done with guests. */
import { Kbd, Text } from "@mantine/core";
import { Spotlight } from "@mantine/spotlight";
import { useRouter } from "@tanstack/react-router";
import { useDeferredValue, useMemo, useState } from "react";
import { tellFailure, useAct } from "../hooks/actions";
import { useGuestExtras, useGuests, useStorages } from "../hooks/resources";
import { useLacking } from "../hooks/rights";
import { type Action, asked } from "../logic/actions";
import { type Hit, hits } from "../logic/palette";
import { ConfirmAction } from "./ConfirmAction";
import { places, ways } from "./navigation";
import classes from "./Search.module.css";

/** Shells in a terminal have a Ctrl+K of their own. */
const TYPED_IN = ["TEXTAREA"];
const NOTHING: readonly never[] = [];
const PAGES = [...places, ...ways].map(({ label, to }) => ({ label, to }));

function useHits(query: string): readonly Hit[] {
  const guests = useGuests().data ?? NOTHING;
  const extras = useGuestExtras().data ?? NOTHING;
  const storages = useStorages().data ?? NOTHING;
  const addresses = useMemo(() => new Map(extras.map((one) => [one.vmid, one.addresses ?? []])), [extras]);
  return useMemo(
    () => hits(query, { guests, storages, addresses, pages: PAGES }),
    [query, guests, storages, addresses],
  );
}

function Results({ query, onAction }: { query: string; onAction: (action: Action) => void }) {
  const found = useHits(useDeferredValue(query));
  const router = useRouter();
  const lacking = useLacking();
  const lacks = (hit: Hit) => hit.action && lacking(hit.action);
  function open(hit: Hit): void {
    if (hit.action === undefined) {
      router.history.push(hit.to ?? "/");
    } else if (lacks(hit) === undefined) {
      onAction(hit.action);
    }
  }
  const groups = [...new Set(found.map(({ group }) => group))];
  if (found.length === 0) {
    return <Spotlight.Empty>Nothing has these words.</Spotlight.Empty>;
  }
  // Spotlight marks the chosen one's element, at once after each key: the elements stay when others are found.
  return groups.map((group, place) => (
    // biome-ignore lint/suspicious/noArrayIndexKey: see above
    <Spotlight.ActionsGroup key={place} label={group}>
      {found
        .filter((hit) => hit.group === group)
        .map((hit, index) => (
          <Spotlight.Action
            // biome-ignore lint/suspicious/noArrayIndexKey: see above
            key={index}
            {...(lacks(hit) !== undefined && { "aria-disabled": true, "data-disabled": true })}
            onClick={() => open(hit)}
          >
            <Text span size="sm" truncate>
              {hit.label}
            </Text>
            <Text span size="sm" className={classes.detail} ml="auto" pl="md" truncate>
              {lacks(hit) === undefined ? hit.detail : `needs ${lacks(hit)}`}
            </Text>
          </Spotlight.Action>
        ))}
    </Spotlight.ActionsGroup>
  ));
}

export function Search() {
  const act = useAct();
  const [query, setQuery] = useState("");
  const [chosen, setChosen] = useState<Action>();
  const [asking, setAsking] = useState(false);
  function choose(action: Action): void {
    if (asked(action)) {
      setChosen(action);
      setAsking(true);
    } else {
      act(action).catch((error: unknown) => tellFailure(action.title, error));
    }
  }
  return (
    <>
      <Spotlight.Root
        query={query}
        onQueryChange={setQuery}
        shortcut={["mod + K"]}
        tagsToIgnore={TYPED_IN}
        scrollable
        maxHeight={420}
        overlayProps={{ blur: 0 }}
        attributes={{ content: { "aria-label": "Search" } }}
      >
        <Spotlight.Search placeholder="Guest, storage, page, or: start web" aria-label="Search" />
        <Spotlight.ActionsList>
          <Results query={query} onAction={choose} />
        </Spotlight.ActionsList>
        <Spotlight.Footer>
          <Text size="xs" c="dimmed">
            <Kbd size="xs">↑</Kbd> <Kbd size="xs">↓</Kbd> to choose, <Kbd size="xs">Enter</Kbd> to open or do,{" "}
            <Kbd size="xs">Esc</Kbd> to close
          </Text>
        </Spotlight.Footer>
      </Spotlight.Root>
      {chosen !== undefined && <ConfirmAction action={chosen} opened={asking} onClose={() => setAsking(false)} />}
    </>
  );
}
