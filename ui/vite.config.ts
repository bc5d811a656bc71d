import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// During development Vite serves the page and hands calls to a daemon: BASTIDE_URL=https://localhost:8006 npm run dev
const daemon = process.env.BASTIDE_URL ?? "https://localhost:8006";

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "../src/bastide/page",
    emptyOutDir: true,
    target: "es2022",
    // Every file is asked for by its own name: a data: URL would need a wider Content-Security-Policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: {
      "/api2": { target: daemon, secure: false, ws: true },
      "/openapi.json": { target: daemon, secure: false },
    },
  },
  test: { environment: "happy-dom", include: ["tests/**/*.test.{ts,tsx}"] },
});
