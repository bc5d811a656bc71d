/** Images: how they are called and what can be done with them. */
import { type Action, path, shellCommand } from "./actions";
import { bytes, moment } from "./units";
import { splitVolume } from "./volumes";

export type ImageKind = "lxc" | "qemu";

interface Named {
  readonly volid: string;
  readonly name: string;
  readonly storage: string;
  readonly size: number;
  readonly alias?: string;
  readonly built?: number;
  readonly ctime?: number;
}

export function imageLabel(image: Named): string {
  const name = image.alias === undefined ? image.name : `${image.alias} · ${image.name}`;
  return `${name} (${bytes(image.size)} on ${image.storage})`;
}

export function madeAt(image: Pick<Named, "built" | "ctime">): string {
  return moment(image.built ?? image.ctime);
}

function flags(kind: ImageKind, storage: string): string[] {
  return [...(kind === "qemu" ? ["--vm"] : []), ...(storage === "local" ? [] : ["--storage", storage])];
}

export function buildImage(name: string, kind: ImageKind, storage: string, force = false): Action {
  return {
    title: `Build ${name} for ${kind === "lxc" ? "CTs" : "VMs"}`,
    method: "POST",
    path: "/bastide/images/build",
    parameters: { name, kind, storage, ...(force && { force }) },
    command: shellCommand("bastide", "image", "build", name, ...flags(kind, storage), ...(force ? ["--force"] : [])),
  };
}

export function removeVolume(node: string, volid: string, size?: number): Action {
  const { storage } = splitVolume(volid);
  return {
    title: `Remove ${volid}`,
    method: "DELETE",
    path: path`/nodes/${node}/storage/${storage}/content/${volid}`,
    command: shellCommand("bastide", "storage", "rm-volume", volid),
    danger: true,
    loses: [`The volume${size === undefined ? "" : ` of ${bytes(size)}`} and all that is in it.`],
  };
}

export function setServer(server: string, url: string): Action {
  return {
    title: `Add image server ${server}`,
    method: "PUT",
    path: path`/bastide/image-servers/${server}`,
    parameters: { url },
    command: shellCommand("bastide", "image", "server", "add", server, url),
  };
}

export function removeServer(server: string): Action {
  return {
    title: `Remove image server ${server}`,
    method: "DELETE",
    path: path`/bastide/image-servers/${server}`,
    command: shellCommand("bastide", "image", "server", "rm", server),
    danger: true,
    loses: ["Only its address: what was pulled from it stays."],
  };
}
