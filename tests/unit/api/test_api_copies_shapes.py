"""What methods of storages, snapshots, clones and moves answer, held against what the reference says they return."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from framework.api import Api
from framework.rooms import FAKE_STORAGES, TEMPLATE
from framework.shapes import differences

pytestmark = pytest.mark.anyio

CT, VM, ST = "/nodes/{node}/lxc/{vmid}", "/nodes/{node}/qemu/{vmid}", "/nodes/{node}/storage"

CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", f"{CT}/feature", {"feature": "snapshot"}),
    ("POST", f"{CT}/snapshot", {"snapname": "one", "description": "a b"}),
    ("GET", f"{CT}/snapshot", {}),
    ("GET", f"{CT}/snapshot/{{snapname}}", {}),
    ("GET", f"{CT}/snapshot/{{snapname}}/config", {}),
    ("PUT", f"{CT}/snapshot/{{snapname}}/config", {"description": "c"}),
    ("POST", f"{CT}/snapshot/{{snapname}}/rollback", {}),
    ("DELETE", f"{CT}/snapshot/{{snapname}}", {}),
    ("PUT", f"{CT}/resize", {"disk": "rootfs", "size": "+1G"}),
    ("POST", f"{CT}/clone", {"newid": 110}),
    ("POST", f"{CT}/move_volume", {"volume": "rootfs", "storage": "other"}),
    ("GET", f"{VM}/feature", {"feature": "clone"}),
    ("POST", f"{VM}/snapshot", {"snapname": "one"}),
    ("GET", f"{VM}/snapshot", {}),
    ("GET", f"{VM}/snapshot/{{snapname}}", {}),
    ("GET", f"{VM}/snapshot/{{snapname}}/config", {}),
    ("PUT", f"{VM}/snapshot/{{snapname}}/config", {"description": "c"}),
    ("POST", f"{VM}/snapshot/{{snapname}}/rollback", {}),
    ("DELETE", f"{VM}/snapshot/{{snapname}}", {}),
    ("PUT", f"{VM}/resize", {"disk": "scsi0", "size": "+1M"}),
    ("POST", f"{VM}/clone", {"newid": 111}),
    ("POST", f"{VM}/move_disk", {"disk": "scsi0", "storage": "other"}),
    ("PUT", f"{VM}/unlink", {"idlist": "scsi0"}),
    ("POST", f"{VM}/template", {}),
    ("POST", "/storage", {"storage": "third", "type": "dir", "path": "PATH", "content": "images"}),
    ("GET", "/storage", {}),
    ("GET", "/storage/{storage}", {}),
    ("PUT", "/storage/{storage}", {"content": "images,rootdir,vztmpl,iso"}),
    ("GET", ST, {"format": 1}),
    ("GET", f"{ST}/{{storage}}", {}),
    ("GET", f"{ST}/{{storage}}/status", {}),
    ("GET", f"{ST}/{{storage}}/content", {}),
    ("GET", f"{ST}/{{storage}}/content/{{volume}}", {}),
    ("PUT", f"{ST}/{{storage}}/content/{{volume}}", {"notes": "x"}),
    ("POST", f"{ST}/{{storage}}/content/{{volume}}", {"target": "vztmpl/copy_1_amd64.tar.gz"}),
    ("GET", f"{ST}/{{storage}}/rrddata", {"timeframe": "hour"}),
    ("POST", f"{ST}/{{storage}}/content", {"vmid": 101, "filename": "vm-101-disk-7.raw", "size": "1M"}),
    ("DELETE", f"{ST}/{{storage}}/content/{{volume}}", {}),
    ("GET", "/nodes/{node}/disks", {}),
    ("GET", "/nodes/{node}/disks/list", {"skipsmart": 1}),
    ("GET", "/nodes/{node}/disks/directory", {}),
    ("GET", "/nodes/{node}/scan", {}),
]  # fmt: skip


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """The container 100 and the VM 101 on a storage that does everything, and a second storage."""
    made = await Api.make(tmp_path, FAKE_STORAGES)
    upid = await made.data("POST", "/nodes/pve/lxc", vmid=100, ostemplate=TEMPLATE, unprivileged=1, rootfs="local:1")
    assert await made.wait(upid) == "OK"
    assert await made.wait(await made.data("POST", "/nodes/pve/qemu", vmid=101, scsi0="local:0.01,format=raw")) == "OK"
    where = str(tmp_path / "other")
    await made.data("POST", "/storage", storage="other", type="dir", path=where, content="images,rootdir")
    yield made
    await made.services.rooms.tasks.shutdown()


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[Api]:
    """A storage that is a real folder, with a template in it."""
    made = await Api.make(tmp_path / "files")
    yield made
    await made.services.rooms.tasks.shutdown()


async def test_answers_have_the_references_shapes(api: Api, files: Api, reference: Path, tmp_path: Path) -> None:
    described = {(one["method"], one["path"]): one for one in json.loads((reference / "pve-api-9.1.json").read_text())}
    wrong = []
    for method, path, values in CALLS:
        places = {"node": "pve", "vmid": "100" if path.startswith(CT) else "101", "snapname": "one",
                  "storage": "local", "volume": TEMPLATE}  # fmt: skip
        place = re.sub(r"\{(\w+)\}", lambda found: places[found[1]], path)  # noqa: B023
        sent = {key: str(tmp_path / "third") if value == "PATH" else value for key, value in values.items()}
        asked = files if path.startswith(("/storage", ST)) else api
        answer = await asked.data(method, place, **sent)
        if isinstance(answer, str) and answer.startswith("UPID:"):
            ended = await asked.wait(answer)
            assert ended == "OK", (method, path, ended)
        wrong += [f"{method} {path}{one}" for one in differences(answer, described[method, path]["returns"])]
    assert wrong == []


def test_the_measure_measures() -> None:
    shape = {"type": "array", "items": {"type": "object", "properties": {
        "a": {"type": "boolean"}, "b": {"type": "string", "optional": 1, "enum": ["x"]}}}}  # fmt: skip
    assert [*differences([{"a": 1}, {"a": 0, "b": "x"}], shape)] == []
    assert len([*differences([{}, {"a": 2}, {"a": "1"}, {"a": 1, "b": "y"}, 3], shape)]) == 5
    assert [*differences("x", {"type": "null"})] == [": 'x' is no null"]
