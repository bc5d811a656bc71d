import { useSyncExternalStore } from "react";
import { onSession, type SessionState, sessionState } from "../api/session";

export function useSession(): SessionState {
  return useSyncExternalStore(onSession, sessionState);
}

/** The name of who is logged in. */
export function useUser(): string {
  const state = useSession();
  return state.kind === "in" || state.kind === "expired" ? state.session.username : "";
}
