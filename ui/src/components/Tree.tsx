/** Nodes, guests, storages, pools and tags as a tree of which only the rows in sight are in the document. */
import { Text, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { IconFilter } from "@tabler/icons-react";
import { useRouter, useRouterState } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, useCallback, useId, useMemo, useRef, useState } from "react";
import { useGuests, useNodes, usePoolNames, useStorages } from "../hooks/resources";
import { foundRows, openAtFirst, type TreeItem, type TreeSource, treeRows } from "../logic/tree";
import { step } from "../logic/treeKeys";
import classes from "./Tree.module.css";
import { placeOf, TreeRow } from "./TreeRow";

const ROW_HEIGHT = 30;
const NOTHING: readonly never[] = [];

function useSource(): TreeSource {
  const nodes = useNodes().data ?? NOTHING;
  const guests = useGuests().data ?? NOTHING;
  const storages = useStorages().data ?? NOTHING;
  const pools = usePoolNames().data ?? NOTHING;
  return useMemo(() => ({ nodes, guests, storages, pools }), [nodes, guests, storages, pools]);
}

/** The rows to show, and how to open and close one. */
function useRows(filter: string) {
  const source = useSource();
  const [changed, setChanged] = useState<ReadonlyMap<string, boolean>>(new Map());
  const rows = useMemo(() => {
    if (filter.trim() !== "") {
      return foundRows(source, filter);
    }
    const open = openAtFirst(source);
    for (const [id, shown] of changed) {
      shown ? open.add(id) : open.delete(id);
    }
    return treeRows(source, open);
  }, [source, filter, changed]);
  const toggle = useCallback((item: TreeItem) => {
    if (item.open !== undefined) {
      setChanged((before) => new Map(before).set(item.id, !item.open));
    }
  }, []);
  return { rows, toggle };
}

export function Tree() {
  const [text, setText] = useState("");
  const [filter] = useDebouncedValue(text, 120);
  const { rows, toggle } = useRows(filter);
  return (
    <>
      <TextInput
        size="xs"
        aria-label="Filter the tree"
        placeholder="Filter"
        type="search"
        leftSection={<IconFilter size={14} />}
        value={text}
        onChange={(event) => setText(event.currentTarget.value)}
        mb={4}
      />
      {rows.length === 0 && (
        <Text size="sm" c="dimmed" p="xs" role="status">
          {filter.trim() === "" ? "Nothing here yet." : "Nothing has these words."}
        </Text>
      )}
      <Rows rows={rows} toggle={toggle} />
    </>
  );
}

function Rows({ rows, toggle }: { rows: readonly TreeItem[]; toggle: (item: TreeItem) => void }) {
  const frame = useRef<HTMLDivElement>(null);
  const name = useId();
  const router = useRouter();
  const place = useRouterState({ select: (state) => state.location.pathname.split("/").slice(0, 3).join("/") });
  const [activeId, setActiveId] = useState<string>();
  const [focused, setFocused] = useState(false);
  const seen = useVirtualizer({
    count: rows.length,
    getScrollElement: () => frame.current,
    estimateSize: () => ROW_HEIGHT,
    overscan: 4,
    // Rows are made for the frame that is next, not for each of the wheel's events.
    useFlushSync: false,
  });
  const isHere = useCallback((item: TreeItem) => placeOf(item)?.split("/").slice(0, 3).join("/") === place, [place]);
  const here = useMemo(() => rows.findIndex(isHere), [rows, isHere]);
  const kept = useMemo(() => rows.findIndex(({ id }) => id === activeId), [rows, activeId]);
  const active = Math.max(0, kept < 0 ? here : kept);

  function press(event: KeyboardEvent): void {
    const item = rows[active];
    const to = item && placeOf(item);
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      to === undefined ? item && toggle(item) : router.history.push(to);
      return;
    }
    const next = step(rows, active, event.key);
    if (next === undefined || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    event.preventDefault();
    if (next.toggle && item !== undefined) {
      toggle(item);
    }
    setActiveId(rows[next.index]?.id);
    seen.scrollToIndex(next.index);
  }

  return (
    <div
      ref={frame}
      className={classes.tree}
      role="tree"
      aria-label="Nodes, guests, storages, pools and tags"
      tabIndex={0}
      aria-activedescendant={focused && rows.length > 0 ? `${name}-${active}` : undefined}
      onKeyDown={press}
      onFocus={() => {
        setFocused(true);
        seen.scrollToIndex(active);
      }}
      onBlur={() => setFocused(false)}
    >
      <div className={classes.all} style={{ height: seen.getTotalSize() }}>
        {seen.getVirtualItems().map(({ index, start }) => {
          const item = rows[index];
          return item === undefined ? null : (
            <TreeRow
              key={item.id}
              id={`${name}-${index}`}
              item={item}
              top={start}
              active={focused && index === active}
              selected={isHere(item)}
              onToggle={toggle}
            />
          );
        })}
      </div>
    </div>
  );
}
