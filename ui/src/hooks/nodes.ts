/** The nodes' names. */
import { useNodes } from "./resources";

/** Those that answer first; undefined while they are asked for. */
export function useNodeNames(): readonly string[] | undefined {
  const rows = useNodes().data;
  return rows && [...rows].sort((a, b) => rank(a.status) - rank(b.status)).map((row) => row.node);
}

/** The one to ask where any will do. */
export function useAnyNode(): string | undefined {
  return useNodeNames()?.[0];
}

function rank(status: string): number {
  return status === "online" ? 0 : 1;
}
