/** One dialog for a place that has several: what it shows is said when it is opened. */

import { type ReactNode, useState } from "react";
import { FocusedModal } from "./FocusedModal";

export interface DialogContent {
  readonly title: string;
  readonly content: ReactNode;
  readonly size?: string;
}

export interface Dialog {
  readonly open: (shown: DialogContent) => void;
  readonly close: () => void;
  /** To be put somewhere in the place. */
  readonly element: ReactNode;
}

export function useDialog(): Dialog {
  const [shown, setShown] = useState<DialogContent>();
  const [opened, setOpened] = useState(false);
  const close = () => setOpened(false);
  function open(next: DialogContent): void {
    setShown(next);
    setOpened(true);
  }
  const element = (
    <FocusedModal opened={opened} onClose={close} title={shown?.title} size={shown?.size ?? "md"}>
      {shown?.content}
    </FocusedModal>
  );
  return { open, close, element };
}
