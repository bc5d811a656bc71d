/**
 * Keeps a terminal from drowning: a browser's WebSocket cannot be told to wait, and a guest can print faster than a
 * terminal shows. What comes while too much waits is left out.
 */
export class OutputGate {
  private waiting = 0;
  private leftOut = false;

  constructor(
    private readonly limit: number,
    /** Shows some bytes and calls back when it has. */
    private readonly write: (data: Uint8Array | string, done: () => void) => void,
  ) {}

  take(data: Uint8Array): void {
    if (this.waiting > this.limit) {
      this.leftOut = true;
      return;
    }
    this.waiting += data.length;
    this.write(data, () => this.shown(data.length));
  }

  private shown(count: number): void {
    this.waiting -= count;
    if (this.leftOut && this.waiting <= this.limit / 4) {
      this.leftOut = false;
      // A sequence may have been cut: its end and plain letters come first.
      this.write("\x1b\\\x1b[0m\r\n[output was left out: there was too much of it]\r\n", () => undefined);
    }
  }
}
