import { fireEvent, screen } from "@testing-library/react";
import { beforeEach, expect, it } from "vitest";
import { CreateVm } from "../src/pages/create/CreateVm";
import { answering, DISK, expectAccessible, openPage } from "./createHarness";

const text = { type: "string" };
const drive = { type: "string", "x-default-key": "file", "x-properties": { file: text, discard: text } };
const SCHEMA = {
  properties: { vmid: { type: "integer", minimum: 100 }, name: text, cores: { type: "integer" }, memory: text },
  patternProperties: { "^net\\d+$": { ...text, "x-properties": { bridge: text } }, "^scsi\\d+$": drive },
  required: ["vmid"],
};

const hosted = answering();

beforeEach(() => {
  const content = { "application/json": { schema: SCHEMA } };
  hosted.paths = { "/api2/json/nodes/{node}/qemu": { post: { requestBody: { content } } } };
});

it("makes a VM of an image, grows its disk and starts it", async () => {
  hosted.answers["/nodes/one/qemu/104/config"] = { scsi0: "local:104/vm-104-disk-0.qcow2,size=3G" };
  openPage(CreateVm, "/create/vm", "/create/vm?name=db");
  await screen.findByLabelText(/^VMID/);
  fireEvent.click(screen.getByRole("button", { name: "Review" }));
  await expectAccessible();
  fireEvent.click(screen.getByRole("button", { name: "Create" }));
  await screen.findByText("made");
  const [make, grow, start] = hosted.posted;
  expect(make?.path).toBe("/nodes/one/qemu");
  expect(make?.body.scsi0).toBe(`local:0,discard=on,import-from=${DISK},iothread=1`);
  expect([make?.body.cpu, make?.body.ide2, make?.body.start]).toEqual(["host", "local:cloudinit", undefined]);
  expect([grow?.method, grow?.path, grow?.body]).toEqual([
    "PUT",
    "/nodes/one/qemu/104/resize",
    { disk: "scsi0", size: "16384M" },
  ]);
  expect(start?.path).toBe("/nodes/one/qemu/104/status/start");
});

it("leaves a disk that is as large as asked for", async () => {
  hosted.answers["/nodes/one/qemu/104/config"] = { scsi0: "local:104/vm-104-disk-0.qcow2,size=20G" };
  openPage(CreateVm, "/create/vm", "/create/vm?step=confirm");
  fireEvent.click(await screen.findByRole("button", { name: "Create" }));
  await screen.findByText("made");
  expect(hosted.posted.map((one) => one.path)).toEqual(["/nodes/one/qemu", "/nodes/one/qemu/104/status/start"]);
});

it("asks which CD there is no default for", async () => {
  openPage(CreateVm, "/create/vm", "/create/vm?source=iso&step=confirm");
  fireEvent.click(await screen.findByRole("button", { name: "Create" }));
  await screen.findByText("is needed");
  expect(screen.getByRole("heading", { level: 2 }).textContent).toBe("OS");
  await expectAccessible();
});
