"""The texts of a folder that a person keeps data files in."""

import errno
import os
import stat
from pathlib import Path

from bastide.base.errors import HostFailure, InvalidParameter, NotFound

SIZE_LIMIT = 256 * 1024
COUNT_LIMIT = 2000

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO would wait for its other end


def read_texts(folder: Path, suffix: str, limit: int = SIZE_LIMIT) -> dict[str, str]:
    """{name: text} of the files in a folder whose names end with `suffix`, sorted; hidden ones are left out.

    Links are refused, so that nothing outside of the folder is read. Raises NotFound when there is no such folder,
    InvalidParameter that names a file which is a link, no plain file, longer than `limit` bytes or not UTF-8,
    and HostFailure.
    """
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"no such folder '{folder}'") from None
    except OSError as error:
        raise HostFailure(f"folder '{folder}': {error.strerror}") from None
    try:
        names = sorted(name for name in os.listdir(opened) if name.endswith(suffix) and not name.startswith("."))
        if len(names) > COUNT_LIMIT:
            raise InvalidParameter({str(folder): f"has more than {COUNT_LIMIT} files"})
        return {name: _text(opened, name, folder / name, limit) for name in names}
    finally:
        os.close(opened)


def _text(folder: int, name: str, path: Path, limit: int) -> str:
    try:
        descriptor = os.open(name, _FLAGS, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InvalidParameter({str(path): "is a link: put the file itself here"}) from None
        raise HostFailure(f"'{path}': {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidParameter({str(path): "is not a plain file"})
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise HostFailure(f"'{path}': {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise InvalidParameter({str(path): f"is larger than {limit >> 10} KiB"})
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidParameter({f"{path}: line {line}": "is not UTF-8 text"}) from None
