/**
 * Property strings: `key=value,key=value`, the way options are nested in one parameter.
 *
 * A first part without `=` belongs to the default key: `local:8,ro=1` is `volume=local:8,ro=1`. Keys that nobody here
 * knows are kept, in their order, so that a form which changes one of them loses none of the others.
 */

export type Properties = Readonly<Record<string, string>>;
export type GuestKind = "lxc" | "qemu";

const DEFAULT_KEYS: Readonly<Record<GuestKind, Readonly<Record<string, string>>>> = {
  lxc: { rootfs: "volume", mp: "volume", unused: "volume", dev: "path", startup: "order" },
  qemu: {
    agent: "enabled",
    audio: "device",
    boot: "legacy",
    cpu: "cputype",
    efidisk: "file",
    hostpci: "host",
    ide: "file",
    machine: "type",
    memory: "current",
    net: "model",
    rng: "source",
    sata: "file",
    scsi: "file",
    startup: "order",
    tpmstate: "file",
    unused: "file",
    usb: "host",
    vga: "type",
    virtio: "file",
    virtiofs: "dirid",
    watchdog: "model",
  },
};

const CARDS = new Set(
  "e1000 e1000-82540em e1000-82544gc e1000-82545em e1000e i82551 i82557b i82559er ne2k_isa ne2k_pci pcnet rtl8139 virtio vmxnet3".split(
    " ",
  ),
);

/** An option's name without its number: `scsi` of `scsi0`. */
export function stemOf(option: string): string {
  return option.replace(/\d+$/, "");
}

/** The key that a bare first part of an option's value belongs to. */
export function defaultKeyOf(kind: GuestKind, option: string): string | undefined {
  return DEFAULT_KEYS[kind][stemOf(option)];
}

/** The parts of a property string. A bare part without a default key is kept as a key without a value. */
export function parse(text: string, defaultKey?: string): Properties {
  const parts = text.split(",").filter((part) => part !== "");
  return Object.fromEntries(
    parts.map((part) => {
      const equals = part.indexOf("=");
      if (equals >= 0) {
        return [part.slice(0, equals), part.slice(equals + 1)];
      }
      return defaultKey === undefined ? [part, ""] : [defaultKey, part];
    }),
  );
}

/** The property string of parts: the default key's value first and bare, empty values left out. */
export function print(values: Readonly<Record<string, string | undefined>>, defaultKey?: string): string {
  const given = Object.entries(values).filter((entry): entry is [string, string] => !!entry[1]);
  const first = given.filter(([key]) => key === defaultKey);
  const rest = given.filter(([key]) => key !== defaultKey);
  const bare = first.map(([key, value]) => (value.includes("=") ? `${key}=${value}` : value));
  return [...bare, ...rest.map(([key, value]) => `${key}=${value}`)].join(",");
}

/** A property string with some of its parts changed; those that are undefined or empty go. */
export function withParts(
  text: string,
  changes: Readonly<Record<string, string | undefined>>,
  defaultKey?: string,
): string {
  return print({ ...parse(text, defaultKey), ...changes }, defaultKey);
}

/** A VM's network card, whose model may be the key of its address: `virtio=MAC` is `model=virtio,macaddr=MAC`. */
export function parseCard(text: string): Properties {
  const entries = Object.entries(parse(text, "model"));
  return Object.fromEntries(
    entries.flatMap(([key, value]) =>
      CARDS.has(key)
        ? [
            ["model", key],
            ["macaddr", value],
          ]
        : [[key, value]],
    ),
  );
}

export function printCard(values: Readonly<Record<string, string | undefined>>): string {
  const { model, macaddr, ...rest } = values;
  return model && macaddr ? print({ [model]: macaddr, ...rest }) : print(values, "model");
}

/** The parts of any option of a guest. */
export function partsOf(kind: GuestKind, option: string, text: string): Properties {
  const card = kind === "qemu" && stemOf(option) === "net";
  return card ? parseCard(text) : parse(text, defaultKeyOf(kind, option));
}

/** A guest's option as it is written, of its parts. */
export function textOf(kind: GuestKind, option: string, values: Readonly<Record<string, string | undefined>>): string {
  const card = kind === "qemu" && stemOf(option) === "net";
  return card ? printCard(values) : print(values, defaultKeyOf(kind, option));
}

/** Whether a value says yes; `otherwise` when it is not there. */
export function isOn(value: string | number | boolean | undefined, otherwise = false): boolean {
  if (value === undefined || value === "") {
    return otherwise;
  }
  return /^(1|on|yes|true)$/i.test(String(value));
}
