/** One guest in the table. Of plain elements, since many rows are made while one scrolls. */
import { memo } from "react";
import type { GuestRow } from "../hooks/resources";
import { kindOf, nameOf } from "../logic/guestActions";
import { colorOf, stateOf } from "../logic/guestState";
import { tagsOf } from "../logic/tree";
import { bytes, duration, percent, share } from "../logic/units";
import classes from "./GuestTable.module.css";
import { RowLink } from "./RowLink";

interface Props {
  row: GuestRow;
  index: number;
  addresses: string;
  chosen: boolean;
  onChoose: (vmid: number, range: boolean) => void;
}

function Bar({ part }: { part: number }) {
  return (
    <span className={classes.bar} aria-hidden>
      <span style={{ transform: `scaleX(${Math.min(1, part)})` }} />
    </span>
  );
}

function State({ row }: { row: GuestRow }) {
  const state = stateOf(row);
  return (
    <span className={classes.state}>
      <span className={classes.dot} data-state={state} data-bad={colorOf(state) === "red" || undefined} aria-hidden />
      {row.lock === undefined || row.lock === "suspended" ? state : `${state}, ${row.lock}`}
    </span>
  );
}

export const GuestTableRow = memo(function GuestTableRow({ row, index, addresses, chosen, onChoose }: Props) {
  const live = row.status === "running";
  const name = nameOf(row);
  const memory = share(row.mem, row.maxmem);
  const disk = share(row.disk, row.maxdisk);
  return (
    <tr data-row data-chosen={chosen || undefined} aria-rowindex={index + 2}>
      <td>
        <label className={classes.pick}>
          <input
            type="checkbox"
            className={classes.box}
            aria-label={`Choose ${name}`}
            checked={chosen}
            onChange={(event) => onChoose(row.vmid, (event.nativeEvent as MouseEvent).shiftKey === true)}
          />
        </label>
      </td>
      <td>{row.vmid}</td>
      <td>
        <RowLink className={classes.name} to={`/guests/${row.vmid}/summary`}>
          {name}
        </RowLink>
      </td>
      <td>
        <State row={row} />
      </td>
      <td>{kindOf(row)}</td>
      <td title={addresses}>{addresses}</td>
      <td>
        {live && (
          <>
            <Bar part={row.cpu ?? 0} />
            {percent(row.cpu)}
          </>
        )}
      </td>
      <td>
        {live && <Bar part={memory} />}
        {live ? `${bytes(row.mem)} / ${bytes(row.maxmem)}` : bytes(row.maxmem)}
      </td>
      <td>
        {live && (row.disk ?? 0) > 0 && <Bar part={disk} />}
        {live && (row.disk ?? 0) > 0
          ? `${bytes(row.disk)} / ${bytes(row.maxdisk)}`
          : row.maxdisk
            ? bytes(row.maxdisk)
            : ""}
      </td>
      <td>{live ? duration(row.uptime) : ""}</td>
      <td>{tagsOf(row).join(", ")}</td>
    </tr>
  );
});
