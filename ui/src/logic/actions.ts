/**
 * What can be done, as values. A button, its confirmation and *Copy as* are made of the same one, so that what is shown
 * is what is sent.
 */

export type Parameter = string | number | boolean | readonly string[] | undefined;
export type Parameters = Readonly<Record<string, Parameter>>;

export interface Action {
  /** What it does, with a verb, to be read alone: `Start web`. */
  readonly title: string;
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** The path after `/api2/json`. */
  readonly path: string;
  /** Those that are undefined are not sent. */
  readonly parameters?: Parameters;
  /** The command that does the same; without one it is `bastide api`. */
  readonly command?: string | undefined;
  /** Asked for before it is done. */
  readonly danger?: boolean;
  /** What is lost by it, with numbers where they are known: one line each. */
  readonly loses?: readonly string[] | undefined;
  /** What has to be typed before it is done, such as a guest's name. */
  readonly typed?: string | undefined;
}

/** Whether it is asked for before it is done. */
export function asked(action: Action): boolean {
  return Boolean(action.danger || action.typed !== undefined || (action.loses?.length ?? 0) > 0);
}

const SECRET =
  /^(password|client-key|totp|challenge|cipassword|value|secret|encryption-key|keyring|passphrase|otp|confirmation-password)$/;

/** One word of a POSIX shell's command line. */
export function shellWord(text: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** The words of a command, quoted where the shell asks for it. */
export function shellCommand(...words: readonly string[]): string {
  return words.map(shellWord).join(" ");
}

/** The parameters that are sent, one a pair, in the order given; arrays repeat their key. */
export function pairs(parameters: Parameters = {}): [string, string][] {
  return Object.entries(parameters).flatMap(([key, value]): [string, string][] => {
    if (value === undefined) {
      return [];
    }
    if (typeof value === "object") {
      return value.map((one) => [key, one]);
    }
    return [[key, typeof value === "boolean" ? (value ? "1" : "0") : String(value)]];
  });
}

/** What is shown and copied: secrets are named, not told. */
function shown(parameters: Parameters | undefined): [string, string][] {
  return pairs(parameters).map(([key, value]) => [key, SECRET.test(key) ? key.toUpperCase() : value]);
}

const VERBS = { GET: "get", POST: "create", PUT: "set", DELETE: "delete" } as const;

/** The command that does it. */
export function commandOf(action: Action): string {
  const values = shown(action.parameters).map(([key, value]) => `${key}=${value}`);
  return action.command ?? shellCommand("bastide", "api", VERBS[action.method], action.path, ...values);
}

/** The call that does it, for a shell with curl; `TOKEN` is an API token's `USER@REALM!NAME=SECRET`. */
export function curlOf(action: Action, origin: string): string {
  const values = shown(action.parameters);
  const inQuery = action.method === "GET" || action.method === "DELETE";
  const query = inQuery && values.length > 0 ? `?${new URLSearchParams(values)}` : "";
  const address = shellWord(`${origin}/api2/json${action.path}${query}`);
  const method = action.method === "GET" ? [] : ["-X", action.method];
  const body = inQuery ? [] : values.map(([key, value]) => `--data-urlencode ${shellWord(`${key}=${value}`)}`);
  return ["curl", "-k", ...method, '-H "Authorization: PVEAPIToken=$TOKEN"', ...body, address].join(" ");
}

/** A path of the API with its variables percent-encoded: `` path`/nodes/${node}/status` ``. */
export function path(parts: TemplateStringsArray, ...values: readonly (string | number)[]): string {
  return parts.reduce((text, part, index) => text + encodeURIComponent(String(values[index - 1])) + part);
}

const SUBJECTS: readonly (readonly [RegExp, readonly string[]])[] = [
  [/\/storage(\/|$)|\/vzdump|\/image|\/aplinfo/, ["storage"]],
  [/^\/cluster\/backup|-jobs|\/backup\//, ["jobs"]],
  [/^\/access/, ["access"]],
  [/^\/pools/, ["pools", "guests"]],
  [/^\/architect/, ["architect", "guests"]],
  [/\/(startall|stopall|qemu|lxc)(\/|$)|^\/bastide\/(guests|rescan)/, ["guests"]],
  [/\/disks\//, ["nodes", "storage"]],
];

/** The subjects whose queries a call makes stale. */
export function touched(callPath: string): string[] {
  const found = SUBJECTS.filter(([pattern]) => pattern.test(callPath)).flatMap(([, subjects]) => subjects);
  return [...new Set([...found, "tasks"])];
}

/** Whether an answer is the name of a task. */
export function isUpid(answer: unknown): answer is string {
  return typeof answer === "string" && /^UPID:[^:]+:(?:[0-9A-Fa-f]+:){3}[^:]+:[^:]*:[^:]+:$/.test(answer);
}
