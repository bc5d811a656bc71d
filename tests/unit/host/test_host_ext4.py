"""Growing ext4 in images where the kernel refuses."""

import pytest

from bastide.base.errors import NotSupported, RunError
from bastide.host import filesystems


@pytest.mark.anyio
async def test_an_image_keeps_its_size_when_its_file_system_must_not_grow(tmp_path, monkeypatch):
    image, told = tmp_path / "vm-100-disk-0.raw", []
    image.write_bytes(b"")
    image.open("r+b").truncate(4096)

    async def tool(argv):
        told.append((argv[0], image.stat().st_size))
        if argv[0] == "resize2fs":
            raise RunError(argv, 1, "resize2fs: Permission denied to resize filesystem")

    monkeypatch.setattr(filesystems, "loop_devices", lambda _image: ["/dev/loop99"])
    monkeypatch.setattr(filesystems, "_tool", tool)
    with pytest.raises(NotSupported, match="stop the guest first"):
        await filesystems.grow_ext4(image, 2**40)
    assert told == [("losetup", 2**40), ("resize2fs", 2**40), ("losetup", 4096)]
    assert image.stat().st_size == 4096
