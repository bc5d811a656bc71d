/** One upload into a storage: how far it is, and the task that takes what was sent. */
import { useRef, useState } from "react";
import { ApiError, told } from "../api/errors";
import { upload } from "../api/upload";
import { path } from "../logic/actions";
import type { Faults } from "../logic/schema";
import { uploadFields } from "../logic/storages";
import { followAs } from "./actions";

export interface UploadState {
  readonly busy: boolean;
  /** The host has all of it and looks whether it is what it should be: that cannot be stopped any more. */
  readonly checking?: boolean;
  readonly sent: number;
  readonly total: number;
  readonly failure?: string;
  readonly errors: Faults;
}

export interface Sending {
  readonly file: File;
  readonly name: string;
  readonly content: string;
  readonly checksum: string;
  readonly algorithm: string;
}

const IDLE: UploadState = { busy: false, sent: 0, total: 0, errors: {} };

export function useUpload(node: string, storage: string) {
  const [state, setState] = useState<UploadState>(IDLE);
  const stopping = useRef<AbortController>(undefined);

  /** Whether the storage has taken the file. */
  async function send({ file, name, content, checksum, algorithm }: Sending): Promise<boolean> {
    const ending = new AbortController();
    stopping.current = ending;
    const where = path`/nodes/${node}/storage/${storage}/upload`;
    setState({ ...IDLE, busy: true, total: file.size });
    try {
      const upid = await upload({
        path: where,
        fields: uploadFields({ content, checksum, algorithm }),
        file,
        name,
        signal: ending.signal,
        onProgress: (sent, total) => setState({ ...IDLE, busy: true, sent, total }),
      });
      setState({ ...IDLE, busy: true, checking: true, sent: file.size, total: file.size });
      const { task } = followAs({ title: `Upload ${name} to ${storage}`, method: "POST", path: where }, upid);
      const { exitstatus = "" } = (await task?.ended) ?? {};
      const taken = exitstatus === "OK" || exitstatus.startsWith("WARNINGS");
      const about = exitstatus.includes("checksum") ? { errors: { checksum: exitstatus } } : { failure: exitstatus };
      setState(taken ? IDLE : { ...IDLE, ...about });
      return taken;
    } catch (error) {
      const stopped = error instanceof DOMException && error.name === "AbortError";
      setState({
        ...IDLE,
        errors: error instanceof ApiError ? error.errors : {},
        ...(!stopped && { failure: error instanceof ApiError ? error.message : told(error) }),
      });
      return false;
    }
  }

  return { ...state, send, stop: () => stopping.current?.abort() };
}
