/** After a way to another place: its heading gets the focus, and the window its title. */
import { useRouter } from "@tanstack/react-router";
import { useEffect } from "react";

const NAME = "Bastide";

/** Tabs of one guest are one place: `/guests/100`; so are those of `/backups`. */
function placeOf(path: string): string {
  if (path.startsWith("/backups/") && !path.startsWith("/backups/files/")) {
    return "/backups";
  }
  return path.startsWith("/guests/") ? path.split("/").slice(0, 3).join("/") : path;
}

function heading(): HTMLElement | null {
  return document.querySelector<HTMLElement>("main h1");
}

function setTitle(): void {
  const text = heading()?.textContent?.trim() ?? "";
  const title = text === "" ? NAME : `${text} – ${NAME}`;
  if (document.title !== title) {
    document.title = title;
  }
}

function focusHeading(): void {
  const found = heading();
  if (found !== null) {
    found.tabIndex = -1;
    found.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

export function useArrival(): void {
  const router = useRouter();
  useEffect(() => {
    let arriving = false;
    const main = document.querySelector("main");
    const watcher = new MutationObserver(() => {
      setTitle();
      if (arriving && heading() !== null) {
        arriving = false;
        focusHeading();
      }
    });
    if (main !== null) {
      watcher.observe(main, { subtree: true, childList: true, characterData: true });
    }
    const forget = router.subscribe("onRendered", ({ fromLocation, toLocation }) => {
      const elsewhere = fromLocation !== undefined && placeOf(fromLocation.pathname) !== placeOf(toLocation.pathname);
      arriving = elsewhere && heading() === null;
      setTitle();
      if (elsewhere) {
        focusHeading();
      }
    });
    setTitle();
    return () => {
      watcher.disconnect();
      forget();
    };
  }, [router]);
}
