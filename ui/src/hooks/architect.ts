/** The architect: its catalog, its advice, what was measured, what fits, what could be better, plans. */
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { answer, api, call } from "../api/client";
import type { components } from "../api/schema";
import { type Parameters, pairs } from "../logic/actions";
import type { Schema } from "../logic/planText";
import type { Port, Probe } from "../logic/service";

type Schemas = components["schemas"];
export type Advice = Schemas["Advice"];
export type Cost = Schemas["Cost"];
export type Capacity = Schemas["Capacity"];
export type Fit = Schemas["Fit"];
export type Comparison = Schemas["Comparison"];
export type PlanOutlook = Schemas["PlanOutlook"];
export type Step = Schemas["Step"];
export type Decision = Schemas["Decision"];
export type KnownPlan = Schemas["KnownPlan"];

const NEVER = Number.POSITIVE_INFINITY;

export interface CatalogRow {
  readonly name: string;
  readonly title: string;
  readonly summary: string;
  readonly category: string;
  readonly aliases: readonly string[];
  /** Whether the catalog has a recipe that makes it run. */
  readonly installs: number;
}

export interface Extent {
  readonly cores: number;
  readonly memory: string;
  readonly disk: string;
}

export interface CatalogEntry {
  readonly name: string;
  readonly title: string;
  readonly summary: string;
  readonly category: string;
  readonly aliases: readonly string[];
  readonly needs: Readonly<Record<string, unknown>>;
  readonly ports: readonly Port[];
  readonly state: string;
  readonly size: { readonly minimum: Extent; readonly usual: Extent };
  readonly upstream: string;
  readonly source: string;
  readonly notes: readonly string[];
  readonly recipe?: {
    readonly os: readonly string[];
    readonly packages: readonly string[];
    readonly services: readonly string[];
    readonly probe: Probe;
  };
}

/** The services whose texts have all words of the query; all of them without one. */
export function useCatalog(query: string, category?: string) {
  const parameters = { query: query.trim() || undefined, category: category || undefined };
  return useQuery({
    queryKey: ["catalog", parameters.query, parameters.category],
    queryFn: async () => (await call("GET", "/architect/catalog", pairs(parameters))) as readonly CatalogRow[],
    placeholderData: keepPreviousData,
    staleTime: 300_000,
  });
}

export function useEntry(name: string | undefined) {
  return useQuery({
    queryKey: ["catalog", "entry", name],
    queryFn: async () => {
      const params = { path: { name: name ?? "" } };
      return (await answer<unknown>(api.GET("/api2/json/architect/catalog/{name}", { params }))) as CatalogEntry;
    },
    enabled: Boolean(name),
    staleTime: 300_000,
  });
}

/** What the architect says of a wish; the last advice stays while the next is asked for. */
export function useAdvice(parameters: Parameters | undefined) {
  return useQuery({
    queryKey: ["architect", "advice", parameters],
    queryFn: async () => (await call("POST", "/architect/advise", pairs(parameters))) as Advice,
    enabled: parameters !== undefined,
    placeholderData: keepPreviousData,
  });
}

export function useCapacity(parameters: Parameters) {
  return useQuery({
    queryKey: ["architect", "capacity", parameters],
    queryFn: async () => (await call("GET", "/architect/capacity", pairs(parameters))) as Capacity,
    placeholderData: keepPreviousData,
    refetchInterval: 30_000,
  });
}

export interface Kept {
  readonly taken: string;
  readonly image: string;
  readonly quick: boolean;
  readonly runs: number;
  readonly vm: boolean;
  readonly emulated: boolean;
}

export function useKept() {
  return useQuery({
    queryKey: ["architect", "kept"],
    queryFn: async () => (await answer<unknown>(api.GET("/api2/json/architect/compare/kept"))) as readonly Kept[],
  });
}

export function useComparison(taken: string | undefined) {
  return useQuery({
    queryKey: ["architect", "comparison", taken],
    queryFn: () => answer(api.GET("/api2/json/architect/compare", { params: { query: taken ? { taken } : {} } })),
    enabled: taken !== undefined,
    staleTime: NEVER,
  });
}

export interface Finding {
  readonly id: string;
  readonly vmid: number;
  readonly guest: string;
  readonly kind: "ct" | "vm";
  readonly severity: "risk" | "waste" | "note";
  readonly finding: string;
  readonly effect: string;
  readonly commands: readonly string[];
  readonly how: string;
  readonly since: number | null;
  readonly samples: number;
  readonly confidence: string;
}

export interface GuestReview {
  readonly vmid: number;
  readonly name: string;
  readonly kind: "ct" | "vm";
  readonly running: boolean;
  readonly samples: number;
  readonly needed: number;
  readonly since: number | null;
  readonly unknown: readonly string[];
  readonly findings: readonly Finding[];
}

export interface Review {
  readonly window: string;
  readonly taken: number;
  readonly saving: { readonly memory: number; readonly cores: number; readonly disk: number };
  readonly guests: readonly GuestReview[];
}

export type Window = "hour" | "day" | "week" | "month" | "year";

export function useReview(window: Window) {
  return useQuery({
    queryKey: ["architect", "review", window],
    queryFn: async () => {
      const params = { query: { window } };
      return (await answer<unknown>(api.GET("/api2/json/architect/review", { params }))) as Review;
    },
    placeholderData: keepPreviousData,
  });
}

export interface Addressed {
  readonly vmid: number;
  readonly name: string;
  readonly type: "lxc" | "qemu";
  readonly node?: string;
  readonly status: string;
  readonly addresses: readonly string[];
}

/** Guests with the addresses of those that run. */
export function useAddressed(enabled = true) {
  return useQuery({
    queryKey: ["guests", "addresses"],
    queryFn: async () => (await answer<unknown>(api.GET("/api2/json/bastide/guests"))) as readonly Addressed[],
    enabled,
    staleTime: 0,
    refetchInterval: 5_000,
  });
}

export function usePlanSchema() {
  return useQuery({
    queryKey: ["plan-schema"],
    queryFn: async () => (await answer<unknown>(api.GET("/api2/json/architect/plan/schema"))) as Schema,
    staleTime: NEVER,
  });
}

/** What a plan's text comes to on this host; nothing is changed by asking. */
export function useOutlook(text: string, copies: number | undefined) {
  return useQuery({
    queryKey: ["architect", "plan", text, copies],
    queryFn: async () => (await call("POST", "/architect/plan", pairs({ text, copies }))) as readonly PlanOutlook[],
    enabled: text.trim() !== "",
    placeholderData: keepPreviousData,
  });
}

export function usePlans() {
  return useQuery({
    queryKey: ["architect", "plans"],
    queryFn: () => answer(api.GET("/api2/json/architect/plans")),
    refetchInterval: 10_000,
  });
}
