"""The images that a plan's guests are made from: found, built or pulled, each once however many guests want it."""

import asyncio
from urllib.parse import urlsplit

from bastide.base.errors import BastideError, NotFound, NotSupported
from bastide.base.ids import Upid
from bastide.model.access import ROOT, Identity
from bastide.model.guest import Kind
from bastide.operations import image_pull, images
from bastide.operations.architect.subtasks import finished
from bastide.operations.catalog import find_buildable
from bastide.operations.rooms import Rooms
from bastide.tasks.tasks import Task

STORAGE = "local"
"""Where images are kept that are built or pulled."""


async def known(rooms: Rooms, image: str, kind: Kind) -> str | None:
    """The volume that an image's name, volume id or URL means; None when there is none yet."""
    if "://" not in image:
        return await images.image_volid(rooms, image, kind)
    plain = image.partition("?")[0].partition("#")[0]
    file = urlsplit(image).path.rpartition("/")[2]
    for row in await images.list_images(rooms, kind):
        if row.get("source") in (image, plain) or row.get("name") == file:
            return str(row["volid"])
    return None


def obtainable(image: str, kind: Kind, *, named: bool) -> bool:
    """Whether an image that is not there may come: one to build, one of an image server, or one that a plan names."""
    is_volume = ":vztmpl/" in image or ":import/" in image
    return not is_volume and (named or "/" in image or find_buildable(image, kind) is not None)


class Images:
    """What was looked for in one run, so that two guests never cause two builds."""

    def __init__(self, rooms: Rooms, by: Identity, task: Task) -> None:
        self._rooms, self._by, self._task = rooms, by, task
        self._wanted: dict[tuple[str, Kind], asyncio.Task[str]] = {}

    async def obtain(self, image: str, kind: Kind) -> str:
        """The volume of an image, which is built or pulled when there is none. Raises NotFound, HostFailure ..."""
        key = (image, kind)
        if key not in self._wanted:
            self._wanted[key] = asyncio.create_task(self._obtain(image, kind))
        return await asyncio.shield(self._wanted[key])

    async def close(self) -> None:
        """Stop what still runs."""
        for one in self._wanted.values():
            one.cancel()
        await asyncio.gather(*self._wanted.values(), return_exceptions=True)

    async def _obtain(self, image: str, kind: Kind) -> str:
        found = await known(self._rooms, image, kind)
        if found is None:
            self._task.log(f"the image {image} is not there yet: it is built or pulled")
            await finished(self._rooms, self._begin(image, kind))
            found = await known(self._rooms, image, kind)
        if found is None:
            raise NotFound(f"image '{image}' does not exist; `bastide image ls` shows those that do")
        return found

    async def _begin(self, image: str, kind: Kind) -> Upid:
        rooms, by = self._rooms, self._by
        if "://" not in image and find_buildable(image, kind) is not None:
            try:
                return await images.build_image(rooms, by, image, STORAGE, kind=kind)
            except NotSupported as error:
                try:
                    return await image_pull.pull_image(rooms, by, image, STORAGE, kind=kind)
                except BastideError:
                    raise error from None
        return await image_pull.pull_image(rooms, by, image, STORAGE, kind=kind, allow_private=by == ROOT)
