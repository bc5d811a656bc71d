/** The tree of what there is, as the flat list of the rows that are open: what a virtualised tree shows. */

export interface Guest {
  readonly vmid: number;
  readonly node: string;
  readonly type: "lxc" | "qemu";
  readonly name?: string;
  readonly status: string;
  readonly lock?: string;
  readonly template?: number;
  readonly tags?: string;
  readonly pool?: string;
}

interface Storage {
  readonly storage: string;
  readonly node: string;
  readonly status: string;
}

export interface TreeSource {
  readonly nodes: readonly { readonly node: string; readonly status: string }[];
  readonly guests: readonly Guest[];
  readonly storages: readonly Storage[];
  /** All pools, those without guests too. */
  readonly pools: readonly string[];
}

export interface TreeItem {
  readonly id: string;
  readonly kind: "node" | "group" | "guest" | "storage" | "pool" | "tag";
  readonly label: string;
  readonly level: number;
  readonly position: number;
  readonly size: number;
  /** Whether its children are shown; undefined where it has none. */
  readonly open?: boolean;
  readonly count?: number;
  readonly guest?: Guest;
  readonly storage?: Storage;
}

interface Branch {
  readonly item: Omit<TreeItem, "level" | "position" | "size" | "open">;
  readonly children?: () => Branch[];
}

/** What is open before anybody has opened anything. */
export function openAtFirst(source: TreeSource): Set<string> {
  return new Set(source.nodes.flatMap(({ node }) => [`node/${node}`, `node/${node}/guests`]));
}

/** The tags of a guest, in the order of its record. */
export function tagsOf(guest: { readonly tags?: string }): string[] {
  return (guest.tags ?? "").split(/[;, ]+/).filter((tag) => tag !== "");
}

function grouped(guests: readonly Guest[], keys: (guest: Guest) => readonly string[]): Map<string, Guest[]> {
  const groups = new Map<string, Guest[]>();
  for (const guest of guests) {
    for (const key of keys(guest)) {
      const group = groups.get(key);
      if (group === undefined) {
        groups.set(key, [guest]);
      } else {
        group.push(guest);
      }
    }
  }
  return groups;
}

function leaves(under: string, guests: readonly Guest[]): Branch[] {
  return guests.map((guest) => ({
    item: { id: `${under}/${guest.vmid}`, kind: "guest", label: `${guest.vmid} ${guest.name ?? ""}`.trim(), guest },
  }));
}

function sets(kind: "pool" | "tag", label: string, groups: ReadonlyMap<string, readonly Guest[]>): Branch[] {
  if (groups.size === 0) {
    return [];
  }
  const names = [...groups.keys()].sort();
  const children = () =>
    names.map((name): Branch => {
      const guests = groups.get(name) ?? [];
      const item = { id: `${kind}/${name}`, kind, label: name, count: guests.length } as const;
      return guests.length === 0 ? { item } : { item, children: () => leaves(item.id, guests) };
    });
  return [{ item: { id: `${kind}s`, kind: "group", label, count: names.length }, children }];
}

function ofNode(node: string, guests: readonly Guest[], storages: readonly Storage[]): Branch[] {
  const stores = storages.map(
    (storage): Branch => ({
      item: { id: `node/${node}/storage/${storage.storage}`, kind: "storage", label: storage.storage, storage },
    }),
  );
  const group = (id: string, label: string, children: readonly Branch[] | (() => Branch[]), count: number): Branch[] =>
    count === 0
      ? []
      : [
          {
            item: { id: `node/${node}/${id}`, kind: "group", label, count },
            children: typeof children === "function" ? children : () => [...children],
          },
        ];
  return [
    ...group("storages", "Storages", stores, stores.length),
    ...group("guests", "Guests", () => leaves(`node/${node}/guests`, guests), guests.length),
  ];
}

function roots({ nodes, guests, storages, pools }: TreeSource): Branch[] {
  const sorted = [...guests].sort((a, b) => a.vmid - b.vmid);
  const byNode = grouped(sorted, ({ node }) => [node]);
  const byPool = grouped(sorted, ({ pool }) => (pool === undefined ? [] : [pool]));
  for (const pool of pools) {
    byPool.set(pool, byPool.get(pool) ?? []);
  }
  const ofNodes = nodes.map(
    ({ node }): Branch => ({
      item: { id: `node/${node}`, kind: "node", label: node },
      children: () =>
        ofNode(
          node,
          byNode.get(node) ?? [],
          storages.filter((storage) => storage.node === node),
        ),
    }),
  );
  return [...ofNodes, ...sets("pool", "Pools", byPool), ...sets("tag", "Tags", grouped(sorted, tagsOf))];
}

function flatten(branches: readonly Branch[], open: ReadonlySet<string>, level: number, into: TreeItem[]): TreeItem[] {
  branches.forEach(({ item, children }, index) => {
    const place = { level, position: index + 1, size: branches.length };
    if (children === undefined) {
      into.push({ ...item, ...place });
      return;
    }
    const shown = open.has(item.id);
    into.push({ ...item, ...place, open: shown });
    if (shown) {
      flatten(children(), open, level + 1, into);
    }
  });
  return into;
}

/** The rows that are shown, from top to bottom. */
export function treeRows(source: TreeSource, open: ReadonlySet<string>): TreeItem[] {
  return flatten(roots(source), open, 1, []);
}

/** The rows whose label has all the words: guests and storages once, then pools and tags. */
export function foundRows(source: TreeSource, filter: string): TreeItem[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const everything: Branch[] = [];
  for (const root of roots(source)) {
    const [kind] = root.item.id.split("/");
    const children = root.children?.() ?? [];
    everything.push(...(kind === "node" ? [root, ...children.flatMap((group) => group.children?.() ?? [])] : children));
  }
  const found = everything.filter(({ item }) => {
    const label = `${item.label} ${item.guest?.tags ?? ""}`.toLowerCase();
    return words.every((word) => label.includes(word));
  });
  return found.map(({ item }, index) => ({ ...item, level: 1, position: index + 1, size: found.length }));
}
