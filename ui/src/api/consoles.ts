/** Consoles on the wire: the offer of a terminal or a screen, and the terminal's stream over a WebSocket. */
import type { SerialPort } from "../logic/displays";
import { inputFrames, PING, sizeFrame } from "../logic/terminalFrames";
import { answer, api } from "./client";
import { ApiError, told } from "./errors";

export interface GuestPlace {
  readonly node: string;
  readonly type: "lxc" | "qemu";
  readonly vmid: number;
}

interface Offer {
  readonly port: number | string;
  readonly ticket: string;
  readonly user: string;
}

const PING_EVERY = 30_000;

async function offerTerminal({ node, type, vmid }: GuestPlace, serial?: SerialPort): Promise<Offer> {
  const params = { path: { node, vmid } };
  const call =
    type === "lxc"
      ? api.POST("/api2/json/nodes/{node}/lxc/{vmid}/termproxy", { params })
      : api.POST("/api2/json/nodes/{node}/qemu/{vmid}/termproxy", { params, body: serial ? { serial } : {} });
  return (await answer<unknown>(call)) as Offer;
}

function socketUrl({ node, type, vmid }: GuestPlace, { port, ticket }: Offer): string {
  const url = new URL(`/api2/json/nodes/${encodeURIComponent(node)}/${type}/${vmid}/vncwebsocket`, location.href);
  url.protocol = url.protocol === "http:" ? "ws:" : "wss:";
  url.search = new URLSearchParams({ port: String(port), vncticket: ticket }).toString();
  return url.href;
}

/** The address at which a VM's screen answers RFB, once and within half a minute. */
export async function screenUrl(place: GuestPlace): Promise<string> {
  const { node, vmid } = place;
  const offer = (await answer<unknown>(
    api.POST("/api2/json/nodes/{node}/qemu/{vmid}/vncproxy", {
      params: { path: { node, vmid } },
      body: { websocket: true },
    }),
  )) as Offer;
  return socketUrl(place, offer);
}

export interface TerminalListener {
  opened(): void;
  shown(data: Uint8Array): void;
  /** `clean` when the other side ended it in order; else it may be worth another attempt. */
  closed(why: { clean: boolean; reason: string }): void;
}

/** One connection to a guest's terminal. */
export class TerminalConnection {
  private socket: WebSocket | undefined;
  private readonly pinging: ReturnType<typeof setInterval>;
  private greeted = false;
  private over = false;

  constructor(
    private readonly listener: TerminalListener,
    private size: { columns: number; rows: number },
  ) {
    this.pinging = setInterval(() => this.send(PING), PING_EVERY);
  }

  async open(place: GuestPlace, serial?: SerialPort): Promise<void> {
    try {
      const offer = await offerTerminal(place, serial);
      if (!this.over) {
        this.attach(new WebSocket(socketUrl(place, offer), "binary"), `${offer.user}:${offer.ticket}\n`);
      }
    } catch (error) {
      // What the API refuses it refuses again; a daemon that starts anew answers in a moment.
      this.end({ clean: error instanceof ApiError, reason: told(error) });
    }
  }

  type(text: string): void {
    for (const frame of inputFrames(text)) {
      this.send(frame);
    }
  }

  resize(columns: number, rows: number): void {
    this.size = { columns, rows };
    this.send(sizeFrame(columns, rows));
  }

  close(): void {
    this.over = true;
    clearInterval(this.pinging);
    this.socket?.close();
  }

  private send(frame: string | Uint8Array<ArrayBuffer>): void {
    if (this.greeted && this.socket?.readyState === WebSocket.OPEN) {
      this.socket.send(frame);
    }
  }

  private attach(socket: WebSocket, login: string): void {
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(login);
    socket.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => this.receive(new Uint8Array(data));
    socket.onclose = ({ code, reason }) => this.end({ clean: code === 1000, reason });
  }

  private receive(data: Uint8Array): void {
    if (this.over) {
      return;
    }
    let shown = data;
    if (!this.greeted) {
      this.greeted = true;
      shown = data.subarray(2); // OK
      this.listener.opened();
      this.resize(this.size.columns, this.size.rows);
    }
    if (shown.length > 0) {
      this.listener.shown(shown);
    }
  }

  private end(why: { clean: boolean; reason: string }): void {
    clearInterval(this.pinging);
    if (!this.over) {
      this.over = true;
      this.listener.closed(why);
    }
  }
}
