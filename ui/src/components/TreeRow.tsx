/** One row of the tree. */
import {
  IconBox,
  IconChevronDown,
  IconChevronRight,
  IconDatabase,
  IconDeviceDesktop,
  IconFolder,
  IconPlayerPauseFilled,
  IconPlayerPlayFilled,
  IconServer,
  IconTag,
  IconTemplate,
  IconUsersGroup,
} from "@tabler/icons-react";
import { memo } from "react";
import { kindOf } from "../logic/guestActions";
import { stateOf } from "../logic/guestState";
import type { TreeItem } from "../logic/tree";
import { RowLink } from "./RowLink";
import classes from "./Tree.module.css";

const ICONS = {
  node: IconServer,
  group: IconFolder,
  storage: IconDatabase,
  pool: IconUsersGroup,
  tag: IconTag,
} as const;
const INDENT = 14;

/** Where a row leads; what leads nowhere opens and closes. */
export function placeOf({ guest, storage }: TreeItem): string | undefined {
  if (guest !== undefined) {
    return `/guests/${guest.vmid}/summary`;
  }
  return storage === undefined ? undefined : `/storage/${encodeURIComponent(storage.storage)}`;
}

function GuestIcon({ guest }: { guest: NonNullable<TreeItem["guest"]> }) {
  const Icon = guest.template ? IconTemplate : guest.type === "lxc" ? IconBox : IconDeviceDesktop;
  return <Icon size={16} className={classes.icon} />;
}

function Mark({ state }: { state: string }) {
  if (state === "running") {
    return <IconPlayerPlayFilled size={12} className={`${classes.icon} ${classes.running}`} />;
  }
  return state === "paused" ? <IconPlayerPauseFilled size={12} className={classes.icon} /> : null;
}

function spoken(item: TreeItem): string {
  if (item.guest !== undefined) {
    return `${kindOf(item.guest)} ${item.label}, ${stateOf(item.guest)}`;
  }
  if (item.storage !== undefined) {
    return `Storage ${item.label}, ${item.storage.status}`;
  }
  return item.count === undefined ? item.label : `${item.label} ${item.count}`;
}

interface Props {
  item: TreeItem;
  id: string;
  top: number;
  active: boolean;
  selected: boolean;
  onToggle: (item: TreeItem) => void;
}

export const TreeRow = memo(function TreeRow({ item, id, top, active, selected, onToggle }: Props) {
  const to = placeOf(item);
  const Icon = item.kind === "guest" ? undefined : ICONS[item.kind];
  const Chevron = item.open ? IconChevronDown : IconChevronRight;
  const shared = {
    id,
    className: classes.row,
    style: { transform: `translateY(${top}px)`, paddingInlineStart: 6 + (item.level - 1) * INDENT },
    "aria-label": spoken(item),
    "aria-level": item.level,
    "aria-posinset": item.position,
    "aria-setsize": item.size,
    "aria-selected": selected,
    "data-active": active || undefined,
  } as const;
  const content = (
    <>
      {item.open !== undefined && <Chevron size={14} className={classes.icon} />}
      {item.guest !== undefined && <GuestIcon guest={item.guest} />}
      {Icon !== undefined && <Icon size={16} className={classes.icon} />}
      <span className={classes.label}>{item.label}</span>{" "}
      {item.count !== undefined && <span className={classes.count}>{item.count}</span>}
      {item.guest !== undefined && <Mark state={stateOf(item.guest)} />}
    </>
  );
  if (to !== undefined) {
    return (
      <RowLink {...shared} role="treeitem" tabIndex={-1} to={to}>
        {content}
      </RowLink>
    );
  }
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the tree has the keys, for all rows
    <div {...shared} role="treeitem" tabIndex={-1} aria-expanded={item.open} onClick={() => onToggle(item)}>
      {content}
    </div>
  );
});
