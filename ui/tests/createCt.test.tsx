import { fireEvent, screen, waitFor } from "@testing-library/react";
import { beforeEach, expect, it } from "vitest";
import { queries } from "../src/hooks/queries";
import { CreateCt } from "../src/pages/create/CreateCt";
import { answering, expectAccessible, IMAGE, openPage } from "./createHarness";

const text = { type: "string" };
const SCHEMA = {
  properties: {
    vmid: { type: "integer", minimum: 100 },
    ostemplate: text,
    hostname: { type: "string", maxLength: 5 },
    memory: { type: "integer", minimum: 16 },
    rootfs: { type: "string", "x-default-key": "volume", "x-properties": { volume: text, ro: { type: "boolean" } } },
  },
  patternProperties: { "^net\\d+$": { type: "string", "x-properties": { name: text, bridge: text } } },
  required: ["ostemplate", "vmid"],
};

const hosted = answering();

beforeEach(() => {
  const content = { "application/json": { schema: SCHEMA } };
  hosted.paths = { "/api2/json/nodes/{node}/lxc": { post: { requestBody: { content } } } };
});

async function open(address: string) {
  openPage(CreateCt, "/create/ct", address);
  await screen.findByLabelText(/^VMID/);
}

it("makes a CT by Review and Create, of what the host has", async () => {
  await open("/create/ct?hostname=web");
  await expectAccessible();
  fireEvent.click(screen.getByRole("button", { name: "Review" }));
  fireEvent.click(screen.getByRole("button", { name: "Create" }));
  await screen.findByText("made");
  expect(hosted.posted[0]?.path).toBe("/nodes/one/lxc");
  expect(hosted.posted[0]?.body).toEqual({
    vmid: "104",
    hostname: "web",
    ostemplate: IMAGE,
    rootfs: "local:8",
    memory: "1024",
    unprivileged: "1",
    features: "nesting=1",
    net0: "name=eth0,bridge=bastide0,ip=dhcp,ip6=auto",
    start: "1",
  });
});

it("does not send what the schema refuses, and shows the step", async () => {
  await open("/create/ct?hostname=longer-than-five");
  fireEvent.click(screen.getByRole("button", { name: "Review" }));
  fireEvent.click(screen.getByRole("button", { name: "Create" }));
  await screen.findByText("must have at most 5 characters");
  expect(screen.getByRole("heading", { level: 2 }).textContent).toBe("General");
  expect(hosted.posted).toEqual([]);
});

it("puts what the API refuses beside its field and keeps what was typed", async () => {
  hosted.refusal = {
    status: 400,
    body: { data: null, message: "Parameter verification failed.", errors: { vmid: "is taken" } },
  };
  await open("/create/ct");
  fireEvent.change(screen.getByLabelText(/^VMID/), { target: { value: "105" } });
  fireEvent.click(screen.getByRole("button", { name: "Review" }));
  fireEvent.click(screen.getByRole("button", { name: "Create" }));
  expect((await screen.findByRole("alert")).textContent).toContain("vmid: is taken");
  await screen.findByText("is taken");
  await waitFor(() => expect(document.activeElement).toBe(screen.getByLabelText(/^VMID/)));
  await waitFor(() => expect((screen.getByLabelText(/^VMID/) as HTMLInputElement).value).toBe("105"));
});

it("says before anything is sent who has the VMID", async () => {
  hosted.answers["/cluster/resources"] = [{ id: "lxc/104", type: "lxc", vmid: 104, name: "db", node: "one" }];
  await open("/create/ct");
  await waitFor(() => expect(queries.getQueryData(["guests"])).toBeDefined());
  fireEvent.click(screen.getByRole("button", { name: "Next" }));
  await screen.findByText("db has it already");
});
