/** Lists that are asked for again and again: rows that have not changed stay the same objects, so that nothing is drawn anew. */

type Flat = Readonly<Record<string, unknown>>;

function sameValue(a: unknown, b: unknown): boolean {
  if (a === b) {
    return true;
  }
  return Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((value, index) => value === b[index]);
}

/** Whether two rows say the same; their values are plain ones or lists of plain ones. */
function sameRow(a: Flat, b: Flat): boolean {
  let count = 0;
  for (const key in a) {
    if (!sameValue(a[key], b[key])) {
      return false;
    }
    count += 1;
  }
  for (const _key in b) {
    count -= 1;
  }
  return count === 0;
}

/**
 * The new list with the old rows where they say the same, and the old list where all do. A comparison that knows nothing
 * of the rows takes longer than a frame for ten thousand of them.
 */
export function keepRows<Row extends { readonly vmid: number }>(
  before: readonly Row[] | undefined,
  after: readonly Row[],
): readonly Row[] {
  if (before === undefined) {
    return after;
  }
  const moved = before.length !== after.length || before.some(({ vmid }, index) => after[index]?.vmid !== vmid);
  const byId = moved ? new Map(before.map((row) => [row.vmid, row])) : undefined;
  let changed = moved;
  const kept = after.map((row, index) => {
    const old = byId === undefined ? before[index] : byId.get(row.vmid);
    if (old !== undefined && sameRow(old as unknown as Flat, row as unknown as Flat)) {
      return old;
    }
    changed = true;
    return row;
  });
  return changed ? kept : before;
}
