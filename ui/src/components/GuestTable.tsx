/** Guests as a table of which only the rows in sight are in the document: sorted, filtered, several chosen at once. */
import { Group, SegmentedControl, Select, Text, TextInput } from "@mantine/core";
import { IconSearch } from "@tabler/icons-react";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useCallback, useDeferredValue, useMemo, useRef, useState } from "react";
import { type GuestRow, useGuestExtras } from "../hooks/resources";
import { type Filter, filtered, NO_FILTER, type Order, sorted } from "../logic/guestRows";
import { BulkActions } from "./BulkActions";
import { Empty } from "./Empty";
import classes from "./GuestTable.module.css";
import { GuestTableHead, Widths } from "./GuestTableHead";
import { GuestTableRow } from "./GuestTableRow";

const ROW_HEIGHT = 36;
const NOTHING: readonly string[] = [];

/** Which guests are chosen. A range goes from the one chosen last. */
function useChoice(shown: readonly GuestRow[]) {
  const [chosen, setChosen] = useState<ReadonlySet<number>>(new Set());
  const last = useRef<number>(undefined);
  const now = useRef(shown);
  now.current = shown;
  const choose = useCallback((vmid: number, range: boolean) => {
    setChosen((before) => {
      const next = new Set(before);
      const ids = now.current.map((row) => row.vmid);
      const from = range && last.current !== undefined ? ids.indexOf(last.current) : -1;
      const to = ids.indexOf(vmid);
      const on = !before.has(vmid);
      for (const id of from < 0 ? [vmid] : ids.slice(Math.min(from, to), Math.max(from, to) + 1)) {
        on ? next.add(id) : next.delete(id);
      }
      return next;
    });
    last.current = vmid;
  }, []);
  const all = useCallback((on: boolean) => setChosen(new Set(on ? now.current.map(({ vmid }) => vmid) : [])), []);
  return { chosen, choose, all };
}

function useAddressMap(): ReadonlyMap<number, readonly string[]> {
  const extras = useGuestExtras().data;
  return useMemo(() => new Map((extras ?? []).map((one) => [one.vmid, one.addresses ?? []])), [extras]);
}

export function GuestTable({ rows }: { rows: readonly GuestRow[] }) {
  const [filter, setFilter] = useState<Filter>(NO_FILTER);
  const [order, setOrder] = useState<Order>({ by: "vmid", down: false });
  const wanted = useDeferredValue(filter);
  const addresses = useAddressMap();
  const shown = useMemo(() => sorted(filtered(rows, wanted, addresses), order), [rows, wanted, addresses, order]);
  const { chosen, choose, all } = useChoice(shown);
  const picked = useMemo(() => (chosen.size === 0 ? [] : rows.filter(({ vmid }) => chosen.has(vmid))), [rows, chosen]);
  const seen = shown.filter(({ vmid }) => chosen.has(vmid)).length;
  return (
    <>
      <Filters filter={filter} onFilter={setFilter} shown={shown.length} total={rows.length} />
      <BulkActions rows={picked} onClear={() => all(false)} />
      {shown.length === 0 ? (
        <Empty title={rows.length === 0 ? "There are no guests yet." : "No guest answers the filter."} />
      ) : (
        <Frame rows={shown} addresses={addresses} chosen={chosen} onChoose={choose}>
          <GuestTableHead
            order={order}
            onOrder={setOrder}
            chosen={seen === 0 ? "none" : seen === shown.length ? "all" : "some"}
            onAll={all}
          />
        </Frame>
      )}
    </>
  );
}

interface FrameProps {
  rows: readonly GuestRow[];
  addresses: ReadonlyMap<number, readonly string[]>;
  chosen: ReadonlySet<number>;
  onChoose: (vmid: number, range: boolean) => void;
  children: React.ReactNode;
}

function Frame({ rows, addresses, chosen, onChoose, children }: FrameProps) {
  const frame = useRef<HTMLElement>(null);
  const seen = useVirtualizer({
    count: rows.length,
    getScrollElement: () => frame.current,
    estimateSize: () => ROW_HEIGHT,
    overscan: 4,
    // Rows are made for the frame that is next, not for each of the wheel's events.
    useFlushSync: false,
  });
  const items = seen.getVirtualItems();
  const above = items[0]?.start ?? 0;
  const below = seen.getTotalSize() - (items[items.length - 1]?.end ?? 0);
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <section ref={frame} className={classes.frame} tabIndex={0} aria-label="Table of guests">
      <table className={classes.table} aria-label="Guests" aria-rowcount={rows.length + 1}>
        <Widths />
        {children}
        <tbody>
          {above > 0 && <tr aria-hidden style={{ height: above }} />}
          {items.map(({ index }) => {
            const row = rows[index];
            return row === undefined ? null : (
              <GuestTableRow
                key={row.vmid}
                row={row}
                index={index}
                addresses={(addresses.get(row.vmid) ?? NOTHING).join(", ")}
                chosen={chosen.has(row.vmid)}
                onChoose={onChoose}
              />
            );
          })}
          {below > 0 && <tr aria-hidden style={{ height: below }} />}
        </tbody>
      </table>
    </section>
  );
}

interface FiltersProps {
  filter: Filter;
  onFilter: (filter: Filter) => void;
  shown: number;
  total: number;
}

const KINDS = [
  { value: "all", label: "All" },
  { value: "qemu", label: "VM" },
  { value: "lxc", label: "CT" },
];
const STATES = [
  { value: "all", label: "In any state" },
  { value: "running", label: "Running" },
  { value: "stopped", label: "Stopped" },
  { value: "template", label: "Templates" },
];

const counted = (count: number) => (count === 1 ? "1 guest" : `${count} guests`);

function Filters({ filter, onFilter, shown, total }: FiltersProps) {
  return (
    <Group gap="xs" mb="xs">
      <TextInput
        type="search"
        aria-label="Filter guests"
        placeholder="Name, ID, address, tag"
        leftSection={<IconSearch size={16} />}
        value={filter.text}
        onChange={(event) => onFilter({ ...filter, text: event.currentTarget.value })}
        w={{ base: "100%", xs: 240 }}
      />
      <SegmentedControl
        aria-label="Kind"
        data={KINDS}
        value={filter.kind}
        onChange={(kind) => onFilter({ ...filter, kind: kind as Filter["kind"] })}
      />
      <Select
        aria-label="State"
        data={STATES}
        allowDeselect={false}
        value={filter.state}
        onChange={(state) => onFilter({ ...filter, state: (state ?? "all") as Filter["state"] })}
        w={150}
      />
      <Text size="sm" c="dimmed" role="status">
        {shown === total ? counted(total) : `${shown} of ${counted(total)}`}
      </Text>
    </Group>
  );
}
