/** The table's head: what each column is, and by which one it is sorted. */
import { IconArrowDown, IconArrowUp } from "@tabler/icons-react";
import { useEffect, useRef } from "react";
import type { Column, Order } from "../logic/guestRows";
import classes from "./GuestTable.module.css";

const COLUMNS: readonly { by?: Column; label: string; width: number }[] = [
  { by: "vmid", label: "ID", width: 64 },
  { by: "name", label: "Name", width: 130 },
  { by: "state", label: "State", width: 100 },
  { by: "kind", label: "Kind", width: 60 },
  { label: "Addresses", width: 144 },
  { by: "cpu", label: "CPU", width: 96 },
  { by: "mem", label: "Memory", width: 190 },
  { by: "disk", label: "Disk", width: 190 },
  { by: "uptime", label: "Uptime", width: 80 },
  { label: "Tags", width: 100 },
];

export function Widths() {
  return (
    <colgroup>
      <col style={{ width: 40 }} />
      {COLUMNS.map(({ label, width }) => (
        <col key={label} style={{ width }} />
      ))}
    </colgroup>
  );
}

interface Props {
  order: Order;
  onOrder: (order: Order) => void;
  /** How many of the rows are chosen: none, all, or some. */
  chosen: "none" | "some" | "all";
  onAll: (all: boolean) => void;
}

export function GuestTableHead({ order, onOrder, chosen, onAll }: Props) {
  return (
    <thead>
      <tr aria-rowindex={1}>
        <th scope="col">
          <All chosen={chosen} onAll={onAll} />
        </th>
        {COLUMNS.map(({ by, label }) =>
          by === undefined ? (
            <th key={label} scope="col">
              {label}
            </th>
          ) : (
            <Sortable key={label} by={by} label={label} order={order} onOrder={onOrder} />
          ),
        )}
      </tr>
    </thead>
  );
}

function Sortable({ by, label, order, onOrder }: Pick<Props, "order" | "onOrder"> & { by: Column; label: string }) {
  const here = order.by === by;
  const Arrow = order.down ? IconArrowDown : IconArrowUp;
  return (
    <th scope="col" aria-sort={here ? (order.down ? "descending" : "ascending") : "none"}>
      <button type="button" className={classes.sort} onClick={() => onOrder({ by, down: here && !order.down })}>
        {label}
        {here && <Arrow size={14} aria-hidden />}
      </button>
    </th>
  );
}

function All({ chosen, onAll }: Pick<Props, "chosen" | "onAll">) {
  const box = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (box.current !== null) {
      box.current.indeterminate = chosen === "some";
    }
  }, [chosen]);
  return (
    <label className={classes.pick}>
      <input
        ref={box}
        type="checkbox"
        className={classes.box}
        aria-label="Choose all that are shown"
        checked={chosen === "all"}
        onChange={(event) => onAll(event.currentTarget.checked)}
      />
    </label>
  );
}
