/** What an address says that a form shall begin with: `/create/ct?hostname=web&memory=2048`. */
import { useSearch } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Values } from "../../logic/schema";

export function usePrefilled(): Values {
  const search = useSearch({ strict: false }) as Record<string, unknown>;
  return useMemo(
    () => Object.fromEntries(Object.entries(search).map(([name, value]) => [name, String(value)])),
    [search],
  );
}
