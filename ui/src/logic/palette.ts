/** What a query in the command palette finds. */
import type { Action } from "./actions";
import { type ActedOn, kindOf, nameOf, powerActions } from "./guestActions";
import { stateOf } from "./guestState";
import { find, rank, wordsOf } from "./search";

export interface Hit {
  readonly id: string;
  readonly group: "Guests" | "Actions" | "Storages" | "Pages";
  readonly label: string;
  readonly detail: string;
  readonly to?: string;
  readonly action?: Action;
}

interface Guest extends ActedOn {
  readonly tags?: string;
}

export interface Searched {
  readonly guests: readonly Guest[];
  readonly addresses: ReadonlyMap<number, readonly string[]>;
  readonly storages: readonly { readonly storage: string; readonly plugintype: string }[];
  readonly pages: readonly { readonly label: string; readonly to: string }[];
}

const SOME = 8;
const VERBS = ["start", "shut", "down", "stop", "reboot", "reset", "suspend", "resume", "disk", "to"];

/** Words that may be the beginning of what is to be done; the others name a guest. */
function isVerb(word: string): boolean {
  return VERBS.some((verb) => verb.startsWith(word));
}

interface Named {
  readonly label: string;
  readonly words: string;
  readonly guest: Guest;
}

function named({ guests, addresses }: Searched): Named[] {
  return guests.map((guest) => ({
    label: `${guest.name ?? ""} ${guest.vmid}`,
    words: [kindOf(guest), guest.tags ?? "", ...(addresses.get(guest.vmid) ?? [])].join(" "),
    guest,
  }));
}

function actionsFor(query: string, things: readonly Named[]): Hit[] {
  const words = wordsOf(query);
  if (!words.some(isVerb)) {
    return [];
  }
  const names = words.filter((word) => !isVerb(word)).join(" ");
  const candidates = names === "" ? things.slice(0, SOME) : find(things, names, SOME);
  const possible = candidates.flatMap(({ guest }) => {
    const { first, others } = powerActions(guest);
    return [...(first === undefined ? [] : [first]), ...others].map((action) => ({ action, guest }));
  });
  const answering = possible.filter(
    ({ action, guest }) => rank(`${action.title} ${guest.vmid} ${kindOf(guest)} ${guest.tags ?? ""}`, words) > 0,
  );
  return answering.slice(0, SOME).map(({ action, guest }) => ({
    id: `action/${action.path}/${action.title}`,
    group: "Actions",
    label: action.title,
    detail: `${kindOf(guest)} ${guest.vmid}`,
    action,
  }));
}

/** What is found, by groups; without words, some of everything. */
export function hits(query: string, searched: Searched): Hit[] {
  const things = named(searched);
  const guests = find(things, query, SOME).map(({ guest }): Hit => {
    const detail = `${kindOf(guest)} ${guest.vmid}, ${stateOf(guest)}`;
    return {
      id: `guest/${guest.vmid}`,
      group: "Guests",
      label: nameOf(guest),
      detail,
      to: `/guests/${guest.vmid}/summary`,
    };
  });
  const stores = searched.storages.map((one) => ({ label: one.storage, words: `storage ${one.plugintype}`, one }));
  const storages = find(stores, query, SOME).map(({ one }): Hit => {
    const to = `/storage/${encodeURIComponent(one.storage)}`;
    return { id: `storage/${one.storage}`, group: "Storages", label: one.storage, detail: one.plugintype, to };
  });
  const pages = find(searched.pages, query, searched.pages.length).map(
    ({ label, to }): Hit => ({ id: `page/${label}`, group: "Pages", label, detail: "", to }),
  );
  return [...actionsFor(query, things), ...guests, ...storages, ...pages];
}
