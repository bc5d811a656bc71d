/** Sending a file, with its progress, which `fetch` does not tell. */
import { ApiError } from "./errors";
import { csrfToken, loginNeeded } from "./session";

export interface Upload {
  readonly path: string;
  readonly fields: readonly (readonly [string, string])[];
  readonly file: File;
  readonly name: string;
  readonly onProgress: (sent: number, total: number) => void;
  readonly signal: AbortSignal;
}

function failureOf(request: XMLHttpRequest): ApiError {
  try {
    const body = JSON.parse(request.responseText) as { message?: string; errors?: Record<string, string> };
    return new ApiError(request.status, body.message?.trim() || request.statusText, body.errors ?? {});
  } catch {
    return new ApiError(request.status, request.statusText || "the connection broke while the file was sent");
  }
}

function once(token: string, { path, fields, file, name, onProgress, signal }: Upload): Promise<XMLHttpRequest> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    for (const [key, value] of fields) {
      form.append(key, value);
    }
    // The API reads the fields before the file, so that it can refuse without taking it.
    form.append("filename", file, name);
    request.open("POST", `/api2/json${path}`);
    request.setRequestHeader("CSRFPreventionToken", token);
    request.upload.onprogress = (event) => onProgress(event.loaded, event.total);
    request.onload = () => resolve(request);
    request.onerror = () => reject(failureOf(request));
    request.onabort = () => reject(new DOMException("The upload was stopped", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** The `data` of the answer. Raises ApiError, and AbortError when it is stopped. */
export async function upload(what: Upload): Promise<unknown> {
  for (;;) {
    const token = csrfToken();
    const request = await once(token, what);
    if (request.status >= 200 && request.status < 300) {
      return (JSON.parse(request.responseText) as { data: unknown }).data;
    }
    if (request.status !== 401 || !(await loginNeeded(token))) {
      throw failureOf(request);
    }
  }
}
