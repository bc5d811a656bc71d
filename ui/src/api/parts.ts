/** Parts of the page are loaded when they are first opened: what is said and done when one does not come. */

const MISSING = "PartMissing";
const AGAIN_AFTER = 60_000;

/**
 * Give the browser's failure to load a part its words and a name. The router would load the page anew by itself, which
 * with a host that is down ends at the browser's own error page, and for a part asked for ahead loses what was typed.
 */
export function tellMissing(failure: Error): void {
  failure.name = MISSING;
  failure.message = "This part of the page did not come: the host does not answer, or it has a newer page.";
}

export function isMissing(error: unknown): boolean {
  return error instanceof Error && error.name === MISSING;
}

/**
 * Load the page anew if the host answers; returns whether it does. By itself (`unasked`) but once a minute, since a part
 * that is missing in the new page as well would be asked for without end.
 */
export async function loadAnew({ unasked = false } = {}): Promise<boolean> {
  try {
    await fetch("/", { method: "HEAD", cache: "no-store" });
  } catch {
    return false;
  }
  if (!(unasked && loadedJustNow())) {
    location.reload();
  }
  return true;
}

function loadedJustNow(): boolean {
  const key = "loaded anew";
  try {
    const before = Number(sessionStorage.getItem(key));
    sessionStorage.setItem(key, String(Date.now()));
    return Date.now() - before < AGAIN_AFTER;
  } catch {
    return true; // a browser that keeps nothing would never know
  }
}
