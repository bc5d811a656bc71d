import type { Beside } from "../../components/PageFrame";

/** The architect's pages. */
export const beside: readonly Beside[] = [
  { label: "Run something", to: "/architect", exact: true },
  { label: "Plan", to: "/architect/plan" },
  { label: "Capacity", to: "/architect/capacity" },
  { label: "Review", to: "/architect/review" },
  { label: "Compare", to: "/architect/compare" },
];
