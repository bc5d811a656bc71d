import "@mantine/core/styles.css";
import "@mantine/notifications/styles.css";
import "@mantine/spotlight/styles.css";
import "./style.css";
import { MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { setNonce } from "get-nonce";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { tellMissing } from "./api/parts";
import { resume } from "./api/session";
import { LoginGate } from "./components/LoginGate";
import { queries } from "./hooks/queries";
import { nonce } from "./nonce";
import { router } from "./router";
import { theme } from "./theme";

addEventListener("vite:preloadError", ({ payload }) => tellMissing(payload));
void resume();
setNonce(nonce()); // of the style with which a dialog keeps the page under it from scrolling
const root = document.getElementById("root");
if (root === null) {
  throw new Error("index.html has no #root");
}
createRoot(root).render(
  <StrictMode>
    <MantineProvider theme={theme} defaultColorScheme="auto" getStyleNonce={nonce}>
      <QueryClientProvider client={queries}>
        <LoginGate>
          <RouterProvider router={router} />
        </LoginGate>
      </QueryClientProvider>
    </MantineProvider>
  </StrictMode>,
);
