/** Volumes as options name them: `STORAGE:GiB` asks for a new one, `STORAGE:NAME` means one that is there. */

export interface NewVolume {
  readonly storage: string;
  /** GiB, as typed. */
  readonly size: string;
}

/** The request for a new volume; undefined for a volume that is there. */
export function parseNewVolume(text: string): NewVolume | undefined {
  const match = /^([A-Za-z][A-Za-z0-9._-]*)?:(\d*\.?\d*)$/.exec(text);
  return match === null ? undefined : { storage: match[1] ?? "", size: match[2] ?? "" };
}

export function newVolume(storage: string, size: string): string {
  return `${storage}:${size}`;
}

/** With more digits it is no size for the API, but a name. */
const LARGEST = 9_999_999;

/** What is wrong with the request for a new volume. */
export function newVolumeFault(text: string): string | undefined {
  const asked = parseNewVolume(text);
  if (asked === undefined) {
    return text === "" ? "is needed" : undefined;
  }
  if (asked.storage === "") {
    return "no storage is chosen";
  }
  if (Number(asked.size) > LARGEST) {
    return `the size must be at most ${LARGEST} GiB`;
  }
  return Number(asked.size) > 0 ? undefined : "the size must be more than 0 GiB";
}

/** A volume's storage and its name on it. */
export function splitVolume(volid: string): { storage: string; name: string } {
  const colon = volid.indexOf(":");
  return { storage: volid.slice(0, colon), name: volid.slice(colon + 1) };
}

/** What a file's name says that it can be held as; undefined where it says nothing. */
export function contentOf(filename: string): "iso" | "vztmpl" | "import" | undefined {
  const name = filename.toLowerCase();
  if (/\.(iso|img)$/.test(name)) {
    return "iso";
  }
  if (/\.tar\.(gz|xz|zst|bz2)$|\.(tgz|txz|tzst)$/.test(name)) {
    return "vztmpl";
  }
  return /\.(qcow2|raw|vmdk|ova|ovf)$/.test(name) ? "import" : undefined;
}

const CONTENT_LABELS: Readonly<Record<string, string>> = {
  backup: "Backups",
  images: "VM disks",
  import: "Disk images to import",
  iso: "ISO images",
  rootdir: "CT volumes",
  snippets: "Snippets",
  vztmpl: "CT templates",
};

export function contentLabel(content: string): string {
  return CONTENT_LABELS[content] ?? content;
}
