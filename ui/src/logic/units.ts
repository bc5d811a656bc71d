/** Figures as people read them. Sizes are binary, as Proxmox VE shows them. */

const SIZES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;

/** `1536` is `1.5 KiB`; three digits at most, and none after the point where they say nothing. */
export function bytes(count: number | undefined): string {
  if (count === undefined || !Number.isFinite(count)) {
    return "–";
  }
  let value = Math.abs(count);
  let step = 0;
  while (value >= 1023.95 && step < SIZES.length - 1) {
    value /= 1024;
    step += 1;
  }
  const digits = step === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  const text = value.toFixed(digits).replace(/\.0+$|(\.\d*[1-9])0+$/, "$1");
  return `${count < 0 ? "-" : ""}${text} ${SIZES[step]}`;
}

/** Bytes a second. */
export function rate(count: number | undefined): string {
  return count === undefined || !Number.isFinite(count) ? "–" : `${bytes(count)}/s`;
}

/** A part of one as percents: `0.123` is `12.3 %`. */
export function percent(part: number | undefined): string {
  if (part === undefined || !Number.isFinite(part)) {
    return "–";
  }
  const value = part * 100;
  return `${value.toFixed(value >= 10 || value === 0 ? 0 : 1)} %`;
}

/** A part of a whole as a number from 0 to 1; 0 where there is no whole. */
export function share(part: number | undefined, whole: number | undefined): number {
  return part === undefined || whole === undefined || whole <= 0 ? 0 : Math.min(1, Math.max(0, part / whole));
}

const STEPS: readonly (readonly [string, number])[] = [
  ["d", 86_400],
  ["h", 3_600],
  ["m", 60],
  ["s", 1],
];

/** Seconds by their two largest units: `93784` is `1d 2h`. */
export function duration(seconds: number | undefined): string {
  if (seconds === undefined || !Number.isFinite(seconds)) {
    return "–";
  }
  let left = Math.max(0, Math.floor(seconds));
  const parts: string[] = [];
  for (const [unit, size] of STEPS) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count > 0) {
      parts.push(`${count}${unit}`);
    } else if (parts.length > 0) {
      break;
    }
    if (parts.length === 2) {
      break;
    }
  }
  return parts.join(" ") || "0s";
}

const pad = (value: number) => String(value).padStart(2, "0");

/** Seconds since 1970 as a local date and time, to the second. */
export function moment(seconds: number | undefined): string {
  if (seconds === undefined || !Number.isFinite(seconds)) {
    return "–";
  }
  const at = new Date(seconds * 1000);
  const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  return `${day} ${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

/** How long ago: `now` and `then` in seconds. */
export function ago(then: number, now: number): string {
  const seconds = now - then;
  if (seconds < 5) {
    return "now";
  }
  const [first = "now"] = duration(seconds).split(" ");
  return `${first} ago`;
}
