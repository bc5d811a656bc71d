/** A dialog that gives the focus back to what opened it, also where that was an entry of a menu that is gone. */
import { Modal, type ModalProps } from "@mantine/core";
import { useEffect } from "react";

export function FocusedModal({ children, ...look }: ModalProps) {
  return (
    <Modal {...look}>
      <FocusReturn />
      {children}
    </Modal>
  );
}

function FocusReturn() {
  useEffect(() => {
    const before = opener(document.activeElement);
    return () => {
      if (document.activeElement === document.body) {
        before?.focus();
      }
    };
  }, []);
  return null;
}

/** A menu's entry goes with the menu: its button stays. */
function opener(element: Element | null): HTMLElement | null {
  const button = element?.closest("[role=menu]")?.getAttribute("aria-labelledby");
  const found = button ? document.getElementById(button) : element;
  return found instanceof HTMLElement ? found : null;
}
