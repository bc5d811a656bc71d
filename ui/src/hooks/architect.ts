/** The architect: its catalog, its advice, what was measured, what fits, what could be better, plans. */
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { answer, api, call } from "../api/client";
import type { components } from "../api/schema";
import { type Parameters, pairs } from "../logic/actions";
import type { Schema } from "../logic/planText";

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
export type CatalogRow = Schemas["CatalogRow"];
export type CatalogEntry = Schemas["CatalogEntry"];
export type Extent = Schemas["Extent"];
export type Kept = Schemas["KeptComparison"];
export type Finding = Schemas["Finding"];
export type GuestReview = Schemas["GuestReview"];
export type Review = Schemas["Review"];
export type Window = Review["window"];

const NEVER = Number.POSITIVE_INFINITY;

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
    queryFn: () => answer(api.GET("/api2/json/architect/catalog/{name}", { params: { path: { name: name ?? "" } } })),
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

export function useKept() {
  return useQuery({
    queryKey: ["architect", "kept"],
    queryFn: () => answer(api.GET("/api2/json/architect/compare/kept")),
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

export function useReview(window: Window) {
  return useQuery({
    queryKey: ["architect", "review", window],
    queryFn: () => answer(api.GET("/api2/json/architect/review", { params: { query: { window } } })),
    placeholderData: keepPreviousData,
  });
}

/** Guests with the addresses of those that run. */
export function useAddressed(enabled = true) {
  return useQuery({
    queryKey: ["guests", "addresses"],
    queryFn: () => answer(api.GET("/api2/json/bastide/guests")),
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
