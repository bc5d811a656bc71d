import { fireEvent, screen, waitFor, within } from "@testing-library/react";
import { describe, expect, test } from "vitest";
import { changes, type Given, open } from "./guestHarness";

const DB: Given = {
  row: { id: "qemu/101", type: "qemu", vmid: 101, node: "host", name: "<b>db</b>", status: "running", tags: "a;b" },
  status: { status: "running", qmpstatus: "running", uptime: 90, cpu: 0.1, cpus: 2, pressurecpusome: 1.5 },
  pending: [
    { key: "memory", value: 1024, pending: 2048 },
    { key: "cores", value: 2 },
    { key: "net0", value: "virtio=BC:24:11:00:00:01,bridge=vmbr0" },
    { key: "scsi0", value: "local:101/vm-101-disk-0.qcow2,size=8G" },
    { key: "ide2", value: "none,media=cdrom" },
    { key: "args", value: "-foo" },
  ],
  others: [
    [/addresses/, ["10.0.0.2"]],
    [/interfaces/, { result: [{ name: "eth0", "ip-addresses": [{ "ip-address": "10.0.0.2", prefix: 24 }] }] }],
    [/dump/, "user: x\npassword: $5$aa\n"],
    [/content\?content=iso/, [{ volid: "fast:iso/debian.iso", content: "iso", size: 1 }]],
    [/storage\?content=iso/, [{ storage: "fast", active: 1, enabled: 1 }]],
  ],
};

const WEB: Given = {
  row: { id: "lxc/100", type: "lxc", vmid: 100, node: "host", name: "web", status: "stopped" },
  pending: [
    { key: "rootfs", value: "local:100/vm-100-disk-0.raw,size=4G" },
    { key: "unused0", value: "local:100/vm-100-disk-1.raw" },
  ],
  config: { digest: "b".repeat(40), rootfs: "local:100/vm-100-disk-0.raw,size=4G" },
};

async function choose(menu: string, item: string): Promise<void> {
  fireEvent.click(await screen.findByRole("button", { name: menu }));
  fireEvent.click(await screen.findByRole("menuitem", { name: item }));
}

async function save(name = "Save"): Promise<void> {
  fireEvent.click(await screen.findByRole("button", { name }));
}

async function sent() {
  await waitFor(() => expect(changes().length).toBe(1));
  const [only] = changes();
  return { method: only?.method, path: only?.path, body: Object.fromEntries(only?.body ?? []) };
}

describe("a guest's page", () => {
  test("tells its state, use and pressure", async () => {
    await open("summary", DB);
    expect(await screen.findByText("10.0.0.2")).toBeTruthy();
    expect(await screen.findByText("1.5 %")).toBeTruthy();
    expect(screen.getByText("1 change waits for the next start")).toBeTruthy();
  });

  test("reverts what waits beside the present value", async () => {
    await open("hardware", DB);
    const row = (await screen.findByText(/At the next start: 2 GiB/)).closest("tr") as HTMLElement;
    expect(within(row).getByText("1 GiB")).toBeTruthy();
    fireEvent.click(within(row).getByRole("button", { name: /Revert/ }));
    expect((await sent()).body).toEqual({ revert: "memory" });
  });

  test("edits by a form of the schema, with what was there", async () => {
    await open("hardware", DB);
    fireEvent.click(await screen.findByRole("button", { name: "Edit Memory" }));
    const field = (await screen.findByLabelText("Memory (MiB)")) as HTMLInputElement;
    expect(field.value).toBe("2048");
    fireEvent.change(field, { target: { value: "4096" } });
    await save();
    expect((await sent()).body).toEqual({ memory: "4096", digest: "a".repeat(40) });
  });

  test("adds a network card and tells what the guest sees", async () => {
    await open("network", DB);
    expect(await screen.findByText("10.0.0.2/24")).toBeTruthy();
    await save("Add");
    await save();
    expect((await sent()).body.net1).toBe("virtio,bridge=vmbr0");
  });

  test("names what has no form", async () => {
    await open("options", DB);
    expect(await screen.findByText("-foo")).toBeTruthy();
  });

  test("tells cloud-init's texts without passwords", async () => {
    await open("cloudinit", DB);
    expect(await screen.findByText(/\(not shown\)/)).toBeTruthy();
    expect(document.body.textContent).not.toContain("$5$");
  });
});

describe("a VM's disks", () => {
  test("are grown", async () => {
    await open("hardware", DB);
    await choose("Actions for Disk scsi0", "Resize …");
    fireEvent.change(await screen.findByLabelText(/^Size/), { target: { value: "+5G" } });
    await save("Resize");
    expect(await sent()).toMatchObject({
      method: "PUT",
      path: "/nodes/host/qemu/101/resize",
      body: { disk: "scsi0", size: "+5G" },
    });
  });

  test("are detached after it was said that the volume stays", async () => {
    await open("hardware", DB);
    await choose("Actions for Disk scsi0", "Detach …");
    expect(await screen.findByText(/vm-101-disk-0.qcow2 stays/)).toBeTruthy();
    await save("Detach scsi0 of <b>db</b>");
    expect((await sent()).body).toEqual({ delete: "scsi0" });
  });

  test("a medium goes into a drive", async () => {
    await open("hardware", DB);
    await choose("Actions for CD-ROM drive ide2", "Change the medium …");
    fireEvent.click(
      await screen.findByRole("combobox", { name: "Medium" }).catch(() => screen.getByLabelText("Medium")),
    );
    fireEvent.click(await screen.findByRole("option", { name: /debian.iso/, hidden: true }));
    await save();
    expect((await sent()).body.ide2).toBe("fast:iso/debian.iso,media=cdrom");
  });

  test("a new one is refused without a storage before anything is sent", async () => {
    await open("hardware", DB);
    await choose("Add to <b>db</b>", "Disk");
    await save();
    expect(await screen.findByText("no storage is chosen")).toBeTruthy();
    expect(changes()).toEqual([]);
  });
});

describe("a stopped CT", () => {
  test("is removed only when its name is typed", async () => {
    await open("summary", WEB);
    await choose("More for web", "Remove …");
    expect(await screen.findByText(/1 volume goes/)).toBeTruthy();
    const button = screen.getByRole("button", { name: "Remove CT web" }) as HTMLButtonElement;
    expect(button.disabled).toBe(true);
    fireEvent.change(screen.getByLabelText("Type web to go on"), { target: { value: "web" } });
    fireEvent.click(button);
    expect(await sent()).toMatchObject({ method: "DELETE", path: "/nodes/host/lxc/100?purge=1" });
  });

  test("is cloned under the next free id", async () => {
    await open("summary", WEB);
    await choose("More for web", "Clone …");
    fireEvent.change(await screen.findByLabelText(/^Host name/), { target: { value: "web2" } });
    await save("Clone");
    expect((await sent()).body).toEqual({ newid: "105", hostname: "web2" });
  });

  test("gets an unused volume at a path", async () => {
    await open("hardware", WEB);
    await choose("Actions for Unused volume unused0", "Attach …");
    fireEvent.change(await screen.findByLabelText(/^Path in the CT/), { target: { value: "/srv/data" } });
    await save();
    expect((await sent()).body).toEqual({ mp0: "local:100/vm-100-disk-1.raw,mp=/srv/data" });
  });

  test("says what is lost with an unused volume", async () => {
    await open("hardware", WEB);
    await choose("Actions for Unused volume unused0", "Remove …");
    expect(await screen.findByText(/is deleted with all that is on it/)).toBeTruthy();
  });
});
