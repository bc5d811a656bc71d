/**
 * A part of the page that is gone belongs to an earlier build: the page is loaded anew, but once for each part, since one
 * that is missing in the new build as well would be asked for without end.
 */
export function loadAnew(failure: Error): void {
  const key = `loaded anew: ${failure.message}`;
  try {
    if (sessionStorage.getItem(key) === null) {
      sessionStorage.setItem(key, "1");
      location.reload();
    }
  } catch {
    // A browser that keeps nothing would never know that it has loaded the page anew.
  }
}
