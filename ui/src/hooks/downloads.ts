/** Files that the browser fetches by itself. */
import type { MouseEvent } from "react";
import { loggedIn } from "../api/session";
import { tellFailure } from "./actions";

/** Attributes of a link that downloads. An expired login is asked for here, before the browser saves its refusal. */
export function downloading(href: string, name = "") {
  async function fetchIt(): Promise<void> {
    try {
      await loggedIn();
      Object.assign(document.createElement("a"), { href, download: name }).click();
    } catch (error) {
      tellFailure("Download", error);
    }
  }
  return {
    href,
    download: name,
    onClick: (event: MouseEvent) => {
      event.preventDefault();
      void fetchIt();
    },
  };
}
