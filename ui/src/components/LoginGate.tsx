/** Shows the page to who is logged in. A login that has expired is asked for over the page, which stays as it is. */
import { Center, Loader, Modal } from "@mantine/core";
import type { ReactNode } from "react";
import { useSession } from "../hooks/session";
import { Login } from "./Login";

// Dialogs have 200, and what drops down from an input, also from the login's own, 300.
const OVER_DIALOGS = 250;

export function LoginGate({ children }: { children: ReactNode }) {
  const state = useSession();
  if (state.kind === "asking") {
    return (
      <Center h="100vh">
        <Loader aria-label="Loading" />
      </Center>
    );
  }
  if (state.kind === "out") {
    return (
      <Center component="main" mih="100vh" p="md">
        <Login />
      </Center>
    );
  }
  return (
    <>
      {children}
      <Modal
        opened={state.kind === "expired"}
        onClose={() => undefined}
        withCloseButton={false}
        closeOnEscape={false}
        closeOnClickOutside={false}
        title="Your login has expired"
        zIndex={OVER_DIALOGS}
        centered
      >
        <Login username={state.session.username} />
      </Modal>
    </>
  );
}
