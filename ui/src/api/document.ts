/** The OpenAPI document of the daemon that serves this page. */
import type { ApiDocument } from "../logic/schema";
import { failureOf } from "./errors";

/** Raises ApiError. */
export async function readDocument(): Promise<ApiDocument> {
  const response = await fetch("/openapi.json");
  if (!response.ok) {
    throw await failureOf(response);
  }
  return (await response.json()) as ApiDocument;
}
