/**
 * Where in a homelab.yaml a line stands, and what the schema knows of that place. Block style is read, which is what
 * people write; values in braces are left to the daemon.
 */
import { freeName } from "./service";

export interface Schema {
  readonly type?: string | readonly string[];
  readonly $ref?: string;
  readonly $defs?: Readonly<Record<string, Schema>>;
  readonly anyOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: boolean | Schema;
  readonly items?: Schema;
  readonly enum?: readonly (string | number)[];
  readonly const?: string | number;
  readonly default?: unknown;
  readonly examples?: readonly unknown[];
  readonly description?: string;
  readonly required?: readonly string[];
}

interface Line {
  /** The columns of `-` marks, from left to right. */
  readonly dashes: readonly number[];
  /** The column at which the content begins. */
  readonly column: number;
  readonly key: string | undefined;
  readonly value: string;
  /** The column at which the value begins. */
  readonly valueColumn: number;
}

export function readLine(text: string): Line | undefined {
  const marks = /^(\s*)((?:-\s+)*)/.exec(text);
  const head = marks?.[0] ?? "";
  const rest = text.slice(head.length);
  if ((rest === "" && !text.includes("-")) || rest.startsWith("#")) {
    return undefined;
  }
  const dashes = [...head.matchAll(/-/g)].map((found) => found.index);
  const pair = /^([A-Za-z_][\w-]*)(\s*:)(?:\s+|$)/.exec(rest);
  return {
    dashes: rest === "-" ? [...dashes, head.length] : dashes,
    column: head.length,
    key: pair?.[1],
    value: pair
      ? rest
          .slice(pair[0].length)
          .replace(/\s+#.*$/, "")
          .trimEnd()
      : rest,
    valueColumn: head.length + (pair?.[0].length ?? 0),
  };
}

/** The keys and list marks (`[]`) in which a line's content stands, from the outside in. */
export function pathOf(lines: readonly string[], index: number, column?: number): string[] {
  const own = readLine(lines[index] ?? "");
  const path: string[] = [];
  let limit = column ?? own?.column ?? 0;
  const enter = (line: Line) => {
    for (const dash of [...line.dashes].reverse()) {
      if (dash < limit) {
        path.unshift("[]");
        limit = dash + 1;
      }
    }
  };
  if (own !== undefined) {
    enter(own);
  }
  for (let above = index - 1; above >= 0 && limit > 0; above -= 1) {
    const line = readLine(lines[above] ?? "");
    if (line === undefined) {
      continue;
    }
    if (line.column === limit && line.dashes.length > 0) {
      enter(line);
    } else if (line.column < limit && line.key !== undefined) {
      path.unshift(line.key);
      limit = line.column;
      enter(line);
    }
  }
  return path;
}

function resolved(schema: Schema | undefined, root: Schema): readonly Schema[] {
  if (schema === undefined) {
    return [];
  }
  if (schema.$ref !== undefined) {
    return resolved(root.$defs?.[schema.$ref.split("/").at(-1) ?? ""], root);
  }
  return schema.anyOf === undefined ? [schema] : schema.anyOf.flatMap((one) => resolved(one, root));
}

/** The alternatives that the schema knows for a place. */
export function schemasAt(root: Schema, path: readonly string[]): readonly Schema[] {
  let found = resolved(root, root);
  for (const step of path) {
    found = found.flatMap((schema) => resolved(step === "[]" ? schema.items : schema.properties?.[step], root));
  }
  return found;
}

export interface Option {
  readonly label: string;
  readonly detail?: string;
  /** What is put after it: `: ` behind a key. */
  readonly after?: string;
}

function keyOptions(root: Schema, path: readonly string[]): Option[] {
  return schemasAt(root, path).flatMap((schema) =>
    Object.entries(schema.properties ?? {}).map(([label, one]) => ({
      label,
      after: ": ",
      ...(one.description !== undefined && { detail: one.description }),
    })),
  );
}

function valueOptions(root: Schema, path: readonly string[]): Option[] {
  const texts = schemasAt(root, path).flatMap((schema) => {
    const types = [schema.type ?? []].flat();
    return [
      ...(schema.enum ?? []),
      ...(schema.const === undefined ? [] : [schema.const]),
      ...(types.includes("boolean") ? ["true", "false"] : []),
      ...(schema.examples ?? []),
      ...(typeof schema.default === "string" ? [schema.default] : []),
    ].map(String);
  });
  return [...new Set(texts)].map((label) => ({ label }));
}

export interface Completion {
  /** The column from which the text is replaced. */
  readonly from: number;
  readonly options: readonly Option[];
}

/**
 * What may stand at a place of the text. `known` has further values by key, such as the services of the catalog for
 * `service`.
 */
export function complete(
  text: string,
  line: number,
  column: number,
  root: Schema,
  known: Readonly<Record<string, readonly string[]>>,
): Completion | undefined {
  const lines = text.split("\n");
  const before = (lines[line] ?? "").slice(0, column);
  const start = before.length - (/[\w.:+-]*$/.exec(before)?.[0].length ?? 0);
  const there = readLine(before);
  if (there?.key !== undefined && before.length >= there.valueColumn && /:\s/.test(before)) {
    const path = [...pathOf([...lines.slice(0, line), before], line), there.key];
    const extra = (known[there.key] ?? []).map((label) => ({ label }));
    const options = [...extra, ...valueOptions(root, path)];
    return options.length > 0 ? { from: start, options } : undefined;
  }
  const path = pathOf([...lines.slice(0, line), before], line, there?.column ?? column);
  const key = path.filter((step) => step !== "[]").at(-1) ?? "";
  const inList = path.at(-1) === "[]";
  const options = [...keyOptions(root, path), ...(inList ? [...(known[key] ?? [])].map((label) => ({ label })) : [])];
  return options.length > 0 ? { from: there?.column ?? column, options } : undefined;
}

export interface Fault {
  /** Counted from 1. */
  readonly line: number;
  readonly from: number;
  readonly to: number;
  readonly message: string;
}

/** What the schema refuses: unknown keys, and values that are none of those to choose from. */
export function faults(text: string, root: Schema): Fault[] {
  const lines = text.split("\n");
  const found: Fault[] = [];
  let block = Number.POSITIVE_INFINITY; // the column of a key whose text goes on below it
  lines.forEach((shown, index) => {
    const line = readLine(shown);
    if (line === undefined || line.column > block) {
      return;
    }
    block = line.key !== undefined && /^[|>]/.test(line.value) ? line.column : Number.POSITIVE_INFINITY;
    if (line.key === undefined) {
      return;
    }
    const path = pathOf(lines, index);
    const places = schemasAt(root, path).filter((schema) => schema.properties !== undefined);
    if (places.length === 0) {
      return;
    }
    const at = { line: index + 1, from: line.column, to: line.column + line.key.length };
    if (!places.some((schema) => line.key !== undefined && schema.properties?.[line.key] !== undefined)) {
      found.push({ ...at, message: `${line.key}: is no key here` });
      return;
    }
    const values = schemasAt(root, [...path, line.key]);
    const choices = values.every((schema) => schema.enum !== undefined) ? values.flatMap((one) => one.enum ?? []) : [];
    const value = line.value.replace(/^(["'])(.*)\1$/, "$2");
    if (choices.length > 0 && value !== "" && !/^[[{*&|>]/.test(value) && !choices.map(String).includes(value)) {
      const place = { line: index + 1, from: line.valueColumn, to: line.valueColumn + line.value.length };
      found.push({ ...place, message: `${line.key}: one of ${choices.join(", ")}` });
    }
  });
  return found;
}

/** Errors of the API, by the line that they name; those that name none are at line 0. */
export function lineErrors(errors: Readonly<Record<string, string>>): { line: number; message: string }[] {
  return Object.entries(errors).map(([key, why]) => {
    const [, line, place] = /^line (\d+): (.*)$/.exec(key) ?? [];
    return line === undefined
      ? { line: 0, message: `${key}: ${why}` }
      : { line: Number(line), message: `${place}: ${why}` };
  });
}

/** A plan of two services, to begin with; its guests have names that are not taken. */
export function examplePlan(taken: ReadonlySet<string>): string {
  const [dns, web] = [freeName("dns", taken), freeName("web", taken)];
  return [
    "name: home",
    "services:",
    `- name: ${dns}`,
    "  service: unbound",
    `- name: ${web}`,
    "  service: nginx",
    `  after: [${dns}]`,
    "",
  ].join("\n");
}

/** A plan of one service, to begin with. */
export function planOf(name: string, service: string, instances: number): string {
  const lines = ["name: home", "services:", `- name: ${name}`];
  return [
    ...lines,
    ...(service ? [`  service: ${service}`] : []),
    ...(instances > 1 ? [`  instances: ${instances}`] : []),
    "",
  ].join("\n");
}
