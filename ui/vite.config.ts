import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, gzip } from "node:zlib";
import react from "@vitejs/plugin-react";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

// During development Vite serves the page and hands calls to a daemon: BASTIDE_URL=https://localhost:8006 npm run dev
const daemon = process.env.BASTIDE_URL ?? "https://localhost:8006";

/** Lays each large file's compressed forms beside it, so that the daemon has only to choose. */
function compressed(): Plugin {
  return {
    name: "compressed",
    apply: "build",
    async writeBundle({ dir = "." }) {
      const files = (await readdir(dir, { recursive: true })).filter((name) => /\.(js|css|svg)$/.test(name));
      for (const file of files) {
        const path = join(dir, file);
        const content = await readFile(path);
        if (content.length > 1024) {
          await writeFile(`${path}.gz`, await promisify(gzip)(content, { level: 9 }));
          await writeFile(`${path}.br`, await promisify(brotliCompress)(content));
        }
      }
    },
  };
}

/** `virtual:permissions`: what the document says that operations need, which the page has to know before any form. */
function permissions(): Plugin {
  const name = "virtual:permissions";
  return {
    name: "permissions",
    resolveId: (id) => (id === name ? `\0${name}` : undefined),
    async load(id) {
      if (id !== `\0${name}`) {
        return undefined;
      }
      const document = JSON.parse(await readFile(join(import.meta.dirname, "openapi.json"), "utf8"));
      const found = Object.entries<Record<string, Record<string, unknown>>>(document.paths).flatMap(([path, item]) =>
        Object.entries(item)
          .filter(
            ([method, operation]) => method !== "get" && ("x-needs" in operation || !open(operation["x-permissions"])),
          )
          .map(([method, operation]) => [
            `${method.toUpperCase()} ${path.replace("/api2/json", "")}`,
            operation["x-permissions"] && { ...(operation["x-permissions"] as object), needs: operation["x-needs"] },
          ]),
      );
      return `export default ${JSON.stringify(Object.fromEntries(found))}`;
    },
  };
}

function open(declared: unknown): boolean {
  return declared !== null && (declared as { user?: string }).user !== undefined;
}

export default defineConfig({
  plugins: [react(), compressed(), permissions()],
  build: {
    outDir: "../src/bastide/page",
    emptyOutDir: true,
    target: "es2022",
    // Every file is asked for by its own name: a data: URL would need a wider Content-Security-Policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // What the first page needs comes in few files: one by one they would wait for each other's connections.
    rolldownOptions: {
      output: {
        codeSplitting: {
          groups: [
            { name: "vendor", tags: ["$initial"], test: /node_modules/ },
            { name: "shell", tags: ["$initial"] },
          ],
        },
      },
    },
  },
  server: {
    proxy: {
      "/api2": { target: daemon, secure: false, ws: true },
      "/openapi.json": { target: daemon, secure: false },
    },
  },
  test: { environment: "happy-dom", include: ["tests/**/*.test.{ts,tsx}"] },
});
