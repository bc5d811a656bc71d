/** What the OpenAPI document says of an operation's parameters, and what a form makes of it. */
import type { Parameters } from "./actions";

/** One parameter. A property string tells its parts in `x-properties`. */
export interface FieldSchema {
  readonly type?: string;
  readonly enum?: readonly (string | number)[];
  readonly const?: string | number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
  readonly default?: string | number | boolean;
  readonly description?: string;
  readonly format?: string;
  readonly anyOf?: readonly FieldSchema[];
  readonly "x-properties"?: Readonly<Record<string, FieldSchema>>;
  readonly "x-required"?: readonly string[];
  readonly "x-default-key"?: string;
}

export interface RequestSchema {
  readonly properties: Readonly<Record<string, FieldSchema>>;
  readonly patternProperties?: Readonly<Record<string, FieldSchema>>;
  readonly required: readonly string[];
}

interface Operation {
  readonly parameters?: readonly { name: string; in: string; required?: boolean; schema: FieldSchema }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Partial<RequestSchema> }>> };
}

export interface ApiDocument {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

/** A call as the document names it: `POST /nodes/{node}/lxc`. */
export interface OperationName {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  readonly path: string;
}

export type Choice = string | { readonly value: string; readonly label: string };

/** How a form shows a parameter, beyond what the schema says of it. */
export interface Field {
  readonly name: string;
  readonly label?: string;
  readonly help?: string;
  readonly placeholder?: string;
  /** What can be chosen; with `open` any other text, too; with `many` several, joined by commas. */
  readonly options?: readonly Choice[];
  readonly open?: boolean;
  readonly many?: boolean;
  /** Several of a list that is looked over as a whole: boxes to check, by what stands before the first dot. */
  readonly boxes?: boolean;
  readonly required?: boolean;
  readonly secret?: boolean;
  /** What a switch that is not set means. */
  readonly on?: boolean;
  readonly lines?: number;
  readonly disabled?: boolean;
  /** The parts of a property string that are asked for one by one. */
  readonly parts?: readonly FieldSpec[];
}

/** A field by its name alone, or with more. */
export type FieldSpec = string | Field;

/** Fields under a heading; `folded` ones are shown when asked for. */
export interface FieldGroup {
  readonly title: string;
  readonly fields: readonly FieldSpec[];
  readonly folded?: boolean;
}

/** What a form holds: every value as its text, nothing typed as the empty text. */
export type Values = Readonly<Record<string, string>>;
export type Faults = Readonly<Record<string, string>>;

/** What an operation takes; undefined when the document has no such operation. */
export function requestSchema(document: ApiDocument, { method, path }: OperationName): RequestSchema | undefined {
  const operation = document.paths[`/api2/json${path}`]?.[method.toLowerCase()];
  if (operation === undefined) {
    return undefined;
  }
  const content = operation.requestBody?.content ?? {};
  const body = Object.values(content)[0]?.schema ?? {};
  const query = (operation.parameters ?? []).filter((one) => one.in === "query");
  return {
    properties: { ...Object.fromEntries(query.map((one) => [one.name, one.schema])), ...body.properties },
    patternProperties: body.patternProperties ?? {},
    required: [...query.filter((one) => one.required).map((one) => one.name), ...(body.required ?? [])],
  };
}

/** The schema of a parameter, indexed ones (`net0`) included. */
export function fieldSchema(schema: RequestSchema, name: string): FieldSchema | undefined {
  const indexed = Object.entries(schema.patternProperties ?? {}).find(([pattern]) => new RegExp(pattern).test(name));
  return schema.properties[name] ?? indexed?.[1];
}

/** The parts of a property string, as a schema of their own. */
export function partsSchema(field: FieldSchema | undefined): RequestSchema {
  return { properties: field?.["x-properties"] ?? {}, required: field?.["x-required"] ?? [] };
}

export function asField(spec: FieldSpec): Field {
  return typeof spec === "string" ? { name: spec } : spec;
}

const WORDS: Readonly<Record<string, string>> = {
  acl: "ACL",
  cpu: "CPU",
  dns: "DNS",
  gid: "GID",
  id: "ID",
  ip: "IP",
  ip6: "IPv6",
  iso: "ISO",
  mac: "MAC",
  mtu: "MTU",
  os: "OS",
  smb: "SMB",
  ssd: "SSD",
  ssh: "SSH",
  tpm: "TPM",
  uid: "UID",
  url: "URL",
  vlan: "VLAN",
  vmid: "VMID",
};

/** A parameter's name as a label: `ssh-public-keys` is `SSH public keys`. */
export function labelOf(name: string): string {
  const words = name.split(/[-_]+/).map((word) => WORDS[word] ?? word);
  const text = words.join(" ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function numberFault(schema: FieldSchema, text: string): string | undefined {
  const value = Number(text);
  if (!Number.isFinite(value)) {
    return "expected a number";
  }
  if (schema.type === "integer" && !Number.isInteger(value)) {
    return "expected a whole number";
  }
  if (schema.minimum !== undefined && value < schema.minimum) {
    return `must be at least ${schema.minimum}`;
  }
  if (schema.maximum !== undefined && value > schema.maximum) {
    return `must be at most ${schema.maximum}`;
  }
  return undefined;
}

function textFault(schema: FieldSchema, text: string): string | undefined {
  const length = [...text].length;
  if (schema.minLength !== undefined && length < schema.minLength) {
    return `must have at least ${schema.minLength} characters`;
  }
  if (schema.maxLength !== undefined && length > schema.maxLength) {
    return `must have at most ${schema.maxLength} characters`;
  }
  if (schema.pattern !== undefined && !new RegExp(schema.pattern).test(text)) {
    return `does not have the form ${schema.pattern}`;
  }
  return undefined;
}

/** What is wrong with a value; the API has the last word on what passes here. */
export function faultOf(schema: FieldSchema | undefined, text: string, required = false): string | undefined {
  if (text === "") {
    return required ? "is needed" : undefined;
  }
  if (schema === undefined || schema.anyOf !== undefined) {
    return undefined;
  }
  if (schema.enum !== undefined) {
    return schema.enum.map(String).includes(text) ? undefined : `must be one of ${schema.enum.join(", ")}`;
  }
  if (schema.type === "integer" || schema.type === "number") {
    return numberFault(schema, text);
  }
  return schema.type === "string" ? textFault(schema, text) : undefined;
}

/** What is wrong with the values of some fields, by name. */
export function faultsOf(schema: RequestSchema, specs: readonly FieldSpec[], values: Values): Faults {
  const found = specs.map(asField).map((field): [string, string | undefined] => {
    const required = field.required ?? schema.required.includes(field.name);
    return [field.name, faultOf(fieldSchema(schema, field.name), values[field.name] ?? "", required)];
  });
  return Object.fromEntries(found.filter((entry): entry is [string, string] => entry[1] !== undefined));
}

/** What was typed, as a call's parameters: empty ones are not sent. */
export function given(values: Values): Parameters {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ""));
}

/** The parameters that change what was there: new values, and `delete` for those that were emptied. */
export function changes(before: Values, now: Values): Parameters {
  const changed = Object.entries(now).filter(([name, value]) => value !== "" && value !== (before[name] ?? ""));
  const gone = Object.keys(before).filter((name) => before[name] !== "" && (now[name] ?? "") === "");
  return { ...Object.fromEntries(changed), ...(gone.length > 0 && { delete: gone.join(",") }) };
}

/** Values as a form holds them, of what the API answers. */
export function asValues(answer: Readonly<Record<string, unknown>>): Values {
  const flat = Object.entries(answer).filter(([, value]) => ["string", "number", "boolean"].includes(typeof value));
  return Object.fromEntries(
    flat.map(([key, value]) => [key, typeof value === "boolean" ? String(Number(value)) : String(value)]),
  );
}
