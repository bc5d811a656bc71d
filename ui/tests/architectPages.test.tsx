import { readFileSync } from "node:fs";
import { MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { act, cleanup, configure, fireEvent, render, screen, waitFor } from "@testing-library/react";
import axe from "axe-core";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { resume } from "../src/api/session";
import { queries } from "../src/hooks/queries";
import { router } from "../src/router";
import { ADVICE, CAPACITY, COMPARISON, ENTRY, OUTLOOK, REVIEW, TAKEN } from "./architectAnswers";

configure({ asyncUtilTimeout: 30_000 });
vi.setConfig({ testTimeout: 120_000 });
vi.mock("../src/components/YamlEditor", () => ({ default: () => <div /> }));

const UPID = "UPID:pve:00000001:00000002:00000003:launch:100:root@pam:";
const ROW = { id: "lxc/100", type: "lxc", vmid: 100, node: "pve", name: "web", status: "running" };
const ANSWERS: readonly (readonly [RegExp, unknown])[] = [
  [/^GET \/architect\/catalog\/nginx/, ENTRY],
  [/^GET \/architect\/catalog/, [{ ...ENTRY, installs: 1 }]],
  [/^POST \/architect\/advise/, ADVICE],
  [/^POST \/architect\/(launch|apply)/, UPID],
  [/^POST \/architect\/plan/, OUTLOOK],
  [/^GET \/architect\/plan\/schema/, {}],
  [/^GET \/architect\/capacity/, CAPACITY],
  [/^GET \/architect\/review/, REVIEW],
  [
    /^GET \/architect\/compare\/kept/,
    [{ taken: TAKEN, image: "debian-12", quick: true, runs: 1, vm: true, emulated: true }],
  ],
  [/^GET \/architect\/compare/, COMPARISON],
  [/^GET \/bastide\/guests/, [{ vmid: 100, name: "web", status: "running", addresses: ["10.0.0.5"] }]],
  [/^GET \/bastide\/tasks/, { upid: UPID, status: "stopped", exitstatus: "OK", log: [] }],
  [/^GET \/bastide\/session/, { username: "root@pam", csrf: "x" }],
  [/^GET \/cluster\/resources\?type=vm/, [ROW]],
  [/^GET \/access\/users/, [{ userid: "root@pam", "realm-type": "pam", groups: "", tokens: [] }]],
  [/^POST \/access\/users/, { "full-tokenid": "root@pam!ci", value: "s3cret", info: {} }],
  [/^GET \/access\/permissions/, { "/": { "VM.Audit": 1 } }],
  [/^GET \/pools\?/, [{ poolid: "prod", members: [{ id: "lxc/100", type: "lxc", vmid: 100, name: "web" }] }]],
  [/^GET \/pools/, [{ poolid: "prod" }]],
];

let sent: [string, Record<string, string>][] = [];

async function reply(input: Request | string): Promise<Response> {
  const request = input instanceof Request ? input : new Request(new URL(input, location.origin));
  const { pathname, search } = new URL(request.url);
  if (pathname === "/openapi.json") {
    return new Response(readFileSync("openapi.json", "utf8"));
  }
  const call = `${request.method} ${pathname.replace("/api2/json", "")}${search}`;
  if (request.method !== "GET") {
    sent.push([call, Object.fromEntries(new URLSearchParams(await request.text()))]);
  }
  return Response.json({ data: ANSWERS.find(([pattern]) => pattern.test(call))?.[1] ?? [] });
}

// What grows with its text listens to fonts, which happy-dom has none of.
Object.defineProperty(document, "fonts", { value: new EventTarget(), configurable: true });

class Stream {
  close(): void {}
}

beforeEach(() => {
  sent = [];
  vi.stubGlobal("EventSource", Stream);
  vi.stubGlobal("scrollTo", () => undefined);
  vi.stubGlobal("fetch", reply);
});
afterEach(() => {
  cleanup();
  queries.clear();
  vi.unstubAllGlobals();
});

async function open(address: string): Promise<void> {
  render(
    <MantineProvider env="test">
      <QueryClientProvider client={queries}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </MantineProvider>,
  );
  await act(resume);
  await act(() => router.navigate({ href: address }));
}

const click = async (name: string | RegExp, role = "button") =>
  fireEvent.click(await screen.findByRole(role, { name }));
const writes = (path: string) => sent.filter(([call]) => call.startsWith(path)).map(([, body]) => body);

it("launches a service of the catalog and leads to where it answers", async () => {
  await open("/architect");
  await click("Run nginx");
  expect(await screen.findByText(ADVICE.summary)).toBeTruthy();
  await click("internet");
  await waitFor(() => expect(writes("POST /architect/advise").at(-1)?.exposure).toBe("internet"));
  await waitFor(() => expect(screen.getByRole("button", { name: "Launch nginx" })).toHaveProperty("disabled", false));
  await click("Launch nginx");
  const link = await screen.findByRole("link", { name: "Open http://10.0.0.5" });
  expect(link.getAttribute("rel")).toBe("noopener noreferrer");
  expect(writes("POST /architect/launch")).toEqual([{ service: "nginx", name: "nginx", exposure: "internet" }]);
});

it("shows an entry of the catalog, and links to no script", async () => {
  await open("/architect/catalog/nginx");
  expect(await screen.findByText("nginx-light")).toBeTruthy();
  expect(screen.getByText(/javascript:/).closest("a")).toBeNull();
});

it("applies a plan, and removes what left it only when asked", async () => {
  await open("/architect/plan?name=web&service=nginx");
  expect(await screen.findByText("create: 1, not in the plan: 1")).toBeTruthy();
  fireEvent.click(screen.getByRole("checkbox", { name: /Remove what is not in the plan: old/ }));
  await click(/^Apply home/);
  expect(await screen.findByText("Removes old (CT 104): what is on its disks is lost")).toBeTruthy();
  fireEvent.click(screen.getAllByRole("button", { name: "Apply home" }).at(-1) as HTMLElement);
  await waitFor(() => expect(writes("POST /architect/apply")[0]).toMatchObject({ prune: "1" }));
});

it("draws what fits, with the figures beside it", async () => {
  await open("/architect/capacity");
  expect(await screen.findByRole("img", { name: "7 more containers" })).toBeTruthy();
  expect(screen.getByRole("img", { name: /^Memory: 20 B promised to guests/ })).toBeTruthy();
});

it("mends a finding", async () => {
  await open("/architect/review");
  await click("Set memory=384 of web");
  await waitFor(() => expect(writes("PUT /nodes/pve/lxc/100/config")).toEqual([{ memory: "384" }]));
});

it("compares the kinds", async () => {
  await open("/architect/compare");
  expect(await screen.findByText("188x")).toBeTruthy();
  expect(screen.getByText(/Not measured of the VM: network, host to guest/)).toBeTruthy();
});

it("shows a token's secret once", async () => {
  await open("/access/tokens");
  await click("Make a token");
  fireEvent.change(await screen.findByRole("textbox", { name: /^Name/ }), { target: { value: "ci" } });
  fireEvent.click(screen.getAllByRole("button", { name: "Make a token" }).at(-1) as HTMLElement);
  expect(await screen.findByText("s3cret")).toBeTruthy();
  await click("I have kept it");
  await waitFor(() => expect(screen.queryByText("s3cret")).toBeNull());
});

it.each([
  ["/architect", "What do you want to run?"],
  ["/architect?service=nginx", "What do you want to run?"],
  ["/architect/catalog/nginx", "nginx"],
  ["/architect/plan?name=web&service=nginx", "Plan"],
  ["/architect/capacity", "Capacity"],
  ["/architect/review", "Review"],
  ["/architect/compare", "Compare"],
  ["/access", "Users"],
  ["/access/tokens", "API tokens"],
  ["/access/groups", "Groups"],
  ["/access/roles", "Roles"],
  ["/access/permissions", "Permissions"],
  ["/access/realms", "Realms"],
  ["/pools", "Pools"],
])("has nothing that axe finds at %s", async (address, title) => {
  await open(address);
  expect(await screen.findByRole("heading", { level: 1, name: title })).toBeTruthy();
  await waitFor(() => expect(screen.queryByLabelText(/^(Loading|Asking)/)).toBeNull());
  const main = document.querySelector("main");
  const { violations } = await axe.run(main ?? document.body, { rules: { "color-contrast": { enabled: false } } });
  expect(violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`)).toEqual([]);
});
