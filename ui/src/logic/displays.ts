/** The consoles that a guest has. */

export type SerialPort = "serial0" | "serial1" | "serial2" | "serial3";

/** A CT's terminal, a VM's screen, or one of its serial ports. */
export type Display = "terminal" | "screen" | SerialPort;

const PORTS: readonly SerialPort[] = ["serial0", "serial1", "serial2", "serial3"];

function vga(config: Readonly<Record<string, string | number>>): string[] {
  return String(config.vga ?? "").split(",");
}

/** In the order of what is looked at first: the one that is the VM's display, then its others. */
export function displaysOf(kind: "lxc" | "qemu", config: Readonly<Record<string, string | number>>): Display[] {
  if (kind === "lxc") {
    return ["terminal"];
  }
  const serial = PORTS.filter((port) => config[port] === "socket");
  const type = (vga(config)[0] ?? "").replace(/^type=/, "");
  const shown = serial.filter((port) => port === type);
  return [...shown, "screen", ...serial.filter((port) => port !== type)];
}

/** Whether the guest's clipboard and VNC's are joined. */
export function hasClipboard(config: Readonly<Record<string, string | number>>): boolean {
  return vga(config).includes("clipboard=vnc");
}
