/** What keys do in a tree (WAI-ARIA Authoring Practices, Tree View). */

interface Row {
  readonly label: string;
  readonly level: number;
  readonly open?: boolean;
}

export interface Step {
  readonly index: number;
  /** Whether the row one was at opens or closes. */
  readonly toggle?: boolean;
}

function parentOf(rows: readonly Row[], index: number): number {
  const level = rows[index]?.level ?? 1;
  for (let above = index - 1; above >= 0; above -= 1) {
    if ((rows[above]?.level ?? 1) < level) {
      return above;
    }
  }
  return index;
}

/** The next row that begins with a character, around the end. */
function beginning(rows: readonly Row[], index: number, key: string): number {
  const wanted = key.toLowerCase();
  for (let ahead = 1; ahead <= rows.length; ahead += 1) {
    const at = (index + ahead) % rows.length;
    if (rows[at]?.label.toLowerCase().startsWith(wanted)) {
      return at;
    }
  }
  return index;
}

/** Where a key leads from a row; undefined for a key that does nothing here. */
export function step(rows: readonly Row[], index: number, key: string): Step | undefined {
  const last = rows.length - 1;
  const row = rows[index];
  switch (key) {
    case "ArrowDown":
      return { index: Math.min(last, index + 1) };
    case "ArrowUp":
      return { index: Math.max(0, index - 1) };
    case "PageDown":
      return { index: Math.min(last, index + 10) };
    case "PageUp":
      return { index: Math.max(0, index - 10) };
    case "Home":
      return { index: 0 };
    case "End":
      return { index: Math.max(0, last) };
    case "ArrowRight":
      return row?.open === false ? { index, toggle: true } : { index: row?.open ? Math.min(last, index + 1) : index };
    case "ArrowLeft":
      return row?.open ? { index, toggle: true } : { index: parentOf(rows, index) };
    default:
      return key.length === 1 && key !== " " ? { index: beginning(rows, index, key) } : undefined;
  }
}
