import { fireEvent, screen, within } from "@testing-library/react";
import { beforeEach, expect, it } from "vitest";
import { DisksPage } from "../src/pages/disks/DisksPage";
import { ImagesPage } from "../src/pages/images/ImagesPage";
import { StoragePage } from "../src/pages/storage/StoragePage";
import { StoragesPage } from "../src/pages/storage/StoragesPage";
import { answering, expectAccessible, openPage } from "./createHarness";

const text = { type: "string" };
const NEW = { properties: { storage: text, path: text, content: text }, required: ["storage"] };
const FACTS = { needed: ["path"], fixed: ["path", "storage", "type"], secrets: [], content: ["iso"], default: ["iso"] };
const SCRIPT = "<img src=x onerror=alert(1)>";

const hosted = answering();

beforeEach(() => {
  const content = { "application/json": { schema: NEW } };
  hosted.paths = {
    "/api2/json/storage": { post: { requestBody: { content } } },
    "/api2/json/storage/{storage}": { put: { requestBody: { content } } },
  };
  Object.assign(hosted.answers, {
    "/storage": [{ storage: "local", type: "dir", content: "iso,rootdir", path: "/srv", digest: "d" }],
    "/bastide/storage": [{ storage: "local", type: "dir" }],
    "/bastide/storage-types": [{ type: "dir", optional: ["content"], shared: 0, ...FACTS }],
    "/nodes/one/storage/local/content": [{ volid: `local:iso/${SCRIPT}.iso`, content: "iso", format: "iso", size: 5 }],
    "/nodes/one/storage/local/rrddata": [],
  });
});

it("lists storages, says which is nearly full, and adds one", async () => {
  openPage(StoragesPage, "/storage");
  await screen.findByText(/nearly full/);
  await expectAccessible();
  fireEvent.click(screen.getByRole("button", { name: "Add storage" }));
  const dialog = within(await screen.findByRole("dialog"));
  fireEvent.change(await dialog.findByLabelText(/^ID/), { target: { value: "arch" } });
  fireEvent.click(dialog.getByRole("button", { name: "Add" }));
  await dialog.findByText("is needed");
  expect(hosted.posted).toEqual([]);
  fireEvent.change(dialog.getByLabelText(/^Folder/), { target: { value: "/srv/arch" } });
  fireEvent.click(dialog.getByRole("button", { name: "Add" }));
  await screen.findByText(/nearly full/);
  await expect
    .poll(() => hosted.posted)
    .toEqual([
      { method: "POST", path: "/storage", body: { type: "dir", content: "iso", storage: "arch", path: "/srv/arch" } },
    ]);
});

it("shows one storage, its options and what it may hold", async () => {
  openPage(StoragePage, "/storage/$storage", "/storage/local");
  await screen.findByRole("heading", { level: 1, name: "local" });
  await screen.findByRole("button", { name: "Upload" });
  await screen.findByRole("table", { name: "Options" });
  await expectAccessible();
});

it("shows images and where more can be had", async () => {
  openPage(ImagesPage, "/images");
  await screen.findByRole("region", { name: "Images" });
  await expectAccessible();
  fireEvent.click(screen.getByRole("tab", { name: "Build" }));
  await screen.findByRole("region", { name: "Images that can be built" });
  fireEvent.click(screen.getByRole("tab", { name: "Image servers" }));
  await screen.findByText("https://images.test/");
  await screen.findByRole("region", { name: "Templates that can be had" });
  await expectAccessible();
});

it("lists disks and wipes none without its name", async () => {
  hosted.answers["/nodes/one/disks/list"] = [
    { devpath: "/dev/vdb", size: 5, type: "hdd", mounted: 0, health: "UNKNOWN" },
  ];
  hosted.answers["/nodes/one/disks/lvm"] = { children: [] };
  openPage(DisksPage, "/disks");
  fireEvent.click(await screen.findByRole("button", { name: "More for /dev/vdb" }));
  const entry = await screen.findByRole("menuitem", { name: "Wipe" });
  await expectAccessible();
  fireEvent.click(entry);
  const wipe = (await screen.findByRole("button", { name: "Wipe /dev/vdb" })) as HTMLButtonElement;
  expect(wipe.disabled).toBe(true);
  fireEvent.change(screen.getByLabelText(/^Type \/dev\/vdb/), { target: { value: "/dev/vdb" } });
  fireEvent.click(screen.getByRole("button", { name: "Wipe /dev/vdb" }));
  await expect.poll(() => hosted.posted[0]?.body).toEqual({ disk: "/dev/vdb" });
});
