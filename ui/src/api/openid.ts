/**
 * Logging in at an OpenID provider: the page is left for the provider's, which sends the browser back to it with a code.
 * What it comes back with counts in the window alone that had begun the login: nobody is logged in by a foreign link.
 */
import { answer, api } from "./client";

export type Arrival = { readonly code: string; readonly state: string } | { readonly refused: string };

const BEGUN = "bastide-openid";

/** Leave for the provider of a realm. Raises ApiError. */
export async function leaveForProvider(realm: string): Promise<void> {
  const body = { realm, "redirect-url": location.origin };
  const url = (await answer<unknown>(api.POST("/api2/json/access/openid/auth-url", { body }))) as string;
  sessionStorage.setItem(BEGUN, new URL(url).searchParams.get("state") ?? "");
  location.assign(url);
}

let arrived = read(new URLSearchParams(location.search));

/** What a provider sent this window back with, told once. */
export function arrival(): Arrival | undefined {
  const now = arrived;
  arrived = undefined;
  return now;
}

function read(query: URLSearchParams): Arrival | undefined {
  const state = query.get("state");
  const begun = sessionStorage.getItem(BEGUN);
  if (location.pathname !== "/" || state === null || !(query.has("code") || query.has("error"))) {
    return undefined;
  }
  sessionStorage.removeItem(BEGUN);
  history.replaceState(null, "", "/");
  if (state !== begun) {
    return { refused: "This login was not begun in this window." };
  }
  const code = query.get("code");
  return code === null
    ? { refused: `The provider refused the login (${query.get("error")?.slice(0, 80)}).` }
    : { code, state };
}
