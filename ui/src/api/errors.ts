/** A call that was refused or failed. `errors` names faulty parameters, as the API does. */
export class ApiError extends Error {
  override readonly name = "ApiError";

  constructor(
    readonly status: number,
    message: string,
    readonly errors: Readonly<Record<string, string>> = {},
  ) {
    super(message);
  }
}

/** What to tell somebody of whatever was thrown. */
export function told(error: unknown): string {
  if (error instanceof ApiError) {
    const faults = Object.entries(error.errors).map(([name, why]) => `${name}: ${why}`);
    return [error.message, ...faults].join("\n");
  }
  return error instanceof Error ? error.message : String(error);
}

/** What is wrong with one parameter, for a place that is about it alone. */
export function faultOfField(error: unknown, name: string): string {
  return (error instanceof ApiError && error.errors[name]) || told(error);
}

/** The failure that an answer tells of. */
export async function failureOf(response: Response): Promise<ApiError> {
  const text = await response.text();
  let message = response.statusText;
  let errors: Record<string, string> = {};
  try {
    const body = JSON.parse(text) as { message?: string; errors?: Record<string, string> };
    message = body.message?.trim() || message;
    errors = body.errors ?? {};
  } catch {
    // No answer of the API's: a proxy, or a daemon that ends.
  }
  return new ApiError(response.status, message || `HTTP ${response.status}`, errors);
}
