/**
 * The typed client of the API. Every call is one of these, and every failure an ApiError:
 *
 *     const rows = await answer(api.GET("/api2/json/cluster/resources", { params: { query: { type: "vm" } } }));
 */
import createClient from "openapi-fetch";
import { ApiError, failureOf } from "./errors";
import type { paths } from "./schema";
import { csrfToken, loginNeeded } from "./session";

async function send(request: Request): Promise<Response> {
  for (;;) {
    const attempt = request.clone();
    const token = csrfToken();
    if (request.method !== "GET") {
      attempt.headers.set("CSRFPreventionToken", token);
    }
    const response = await fetch(attempt);
    if (response.status !== 401 || !(await loginNeeded(token))) {
      return response;
    }
  }
}

export const api = createClient<paths>({ fetch: send });

interface Outcome<Data> {
  data?: { data: Data };
  error?: unknown;
  response: Response;
}

/** The `data` of an answer. Raises ApiError. */
export async function answer<Data>(call: Promise<Outcome<Data>>): Promise<Data> {
  const { data, error, response } = await call;
  if (data !== undefined) {
    return data.data;
  }
  const body = (typeof error === "object" && error !== null ? error : {}) as {
    message?: string;
    errors?: Record<string, string>;
  };
  const message = body.message?.trim() || response.statusText || `HTTP ${response.status}`;
  throw new ApiError(response.status, message, body.errors ?? {});
}

/** A call whose path is known only when it is made: an action's. Raises ApiError. */
export async function call(
  method: string,
  path: string,
  parameters: readonly (readonly [string, string])[] = [],
): Promise<unknown> {
  const form = new URLSearchParams(parameters.map(([key, value]) => [key, value]));
  const inQuery = method === "GET" || method === "DELETE";
  const query = inQuery && form.size > 0 ? `?${form}` : "";
  const body = inQuery ? {} : { body: form };
  const response = await send(new Request(new URL(`/api2/json${path}${query}`, location.origin), { method, ...body }));
  if (!response.ok) {
    throw await failureOf(response);
  }
  return ((await response.json()) as { data: unknown }).data;
}
