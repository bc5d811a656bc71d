/** The stream of Proxmox VE's terminal in the browser: `0:LEN:data` is input, `1:COLS:ROWS:` a size, `2` a ping. */

// The server refuses input that is longer than 64 KiB.
const LONGEST_INPUT = 16 * 1024;

const encoder = new TextEncoder();

/** What is typed or pasted, in frames that the server takes. LEN counts bytes of UTF-8. */
export function inputFrames(text: string): Uint8Array<ArrayBuffer>[] {
  const bytes = encoder.encode(text);
  const frames: Uint8Array<ArrayBuffer>[] = [];
  for (let start = 0; start < bytes.length; start += LONGEST_INPUT) {
    frames.push(inputFrame(bytes.subarray(start, start + LONGEST_INPUT)));
  }
  return frames;
}

function inputFrame(data: Uint8Array): Uint8Array<ArrayBuffer> {
  const head = encoder.encode(`0:${data.length}:`);
  const frame = new Uint8Array(head.length + data.length);
  frame.set(head);
  frame.set(data, head.length);
  return frame;
}

export function sizeFrame(columns: number, rows: number): string {
  return `1:${columns}:${rows}:`;
}

export const PING = "2";

/** The key that Ctrl makes of a character: Ctrl-C is 0x03. Characters that have none stay as they are. */
export function withControl(typed: string): string {
  const code = typed.toUpperCase().charCodeAt(0);
  return typed.length === 1 && code >= 0x40 && code <= 0x5f ? String.fromCharCode(code & 0x1f) : typed;
}
