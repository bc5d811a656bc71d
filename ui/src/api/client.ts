/**
 * The typed client of the API. Every call is one of these, and every failure an ApiError:
 *
 *     const rows = await answer(api.GET("/api2/json/cluster/resources", { params: { query: { type: "vm" } } }));
 */
import createClient from "openapi-fetch";
import { ApiError } from "./errors";
import type { paths } from "./schema";
import { csrfToken, loginNeeded } from "./session";

async function send(request: Request): Promise<Response> {
  for (;;) {
    const attempt = request.clone();
    if (request.method !== "GET") {
      attempt.headers.set("CSRFPreventionToken", csrfToken());
    }
    const response = await fetch(attempt);
    if (response.status !== 401) {
      return response;
    }
    await loginNeeded();
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
