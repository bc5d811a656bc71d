"""The measuring tools, installed once in a container of their own and carried from there into each measured guest.

So the measured guests stay what the template made of them, both kinds run the same files, and an emulated VM is spared
dpkg. Only libraries that the installation brought are carried: the rest is part of both kinds' systems.
"""

from collections.abc import AsyncIterator, Sequence

from bastide.architect.benchmarks import TOOLS
from bastide.base.errors import BastideError, WrongState
from bastide.host import measure
from bastide.model.guest import Guest
from bastide.operations import files
from bastide.operations.architect import inside
from bastide.operations.rooms import Rooms
from bastide.operations.vm import files as vm_files

FOLDER = "/var/tmp/bastide-compare"  # noqa: S108 - of a guest that nobody else uses
"""Where the tools lie in a measured guest."""

_ARCHIVE = f"{FOLDER}.tar"
_INSTALL_SECONDS = 300.0
_UNPACK_SECONDS = 300.0
_TRIES = 5

# ldd names what a program loads; a file whose inode is younger than the mark came with the tools.
_INSTALL = """\
folder=$1; shift
export DEBIAN_FRONTEND=noninteractive
mkdir -p "$folder/bin" "$folder/lib"
touch "$folder.mark"
apt-get -qq update >/dev/null
apt-get -qq install -y --no-install-recommends "$@" >/dev/null
for tool in "$@"; do
    cp "/usr/bin/$tool" "$folder/bin/"
    ldd "/usr/bin/$tool" | awk '$2 == "=>" && $3 ~ "^/" { print $3 }'
done | sort -u | while read -r library; do
    [ -z "$(find "$(readlink -f "$library")" -cnewer "$folder.mark")" ] || cp -L "$library" "$folder/lib/"
done
tar -C "$folder" -cf "$folder.tar" .
"""
_FETCH = 'mkdir -p "$1" && tar -C "$1" -xf - <"/dev/tcp/$2/$3"'
_UNPACK = 'mkdir -p "$1" && tar -C "$1" -xf "$1.tar" && rm "$1.tar"'


async def install(rooms: Rooms, donor: Guest) -> None:
    """Install the tools in a running container and pack them up. Raises RunError, DeadlineExceeded."""
    await inside.script(rooms, donor, _INSTALL, FOLDER, *TOOLS, deadline=_INSTALL_SECONDS)


async def carry(rooms: Rooms, donor: Guest, guest: Guest, address: str | None) -> None:
    """Bring the tools from the donor into a running guest: over the network, or through its engine where that fails.

    Raises RunError, DeadlineExceeded, HostFailure.
    """

    async def content() -> AsyncIterator[bytes]:
        async with files.read_file(rooms, donor, _ARCHIVE) as (_facts, chunks):
            async for chunk in chunks:
                yield chunk

    if address is not None and await _fetched(rooms, guest, address, content):
        return
    write = vm_files.write_file if guest.kind == "qemu" else files.write_file
    await write(rooms, guest, _ARCHIVE, content(), files.Writing(0o600, 0, 0))
    await inside.run(rooms, guest, ["sh", "-c", _UNPACK, "sh", FOLDER], deadline=_UNPACK_SECONDS)


async def _fetched(rooms: Rooms, guest: Guest, address: str, content: measure.Feed) -> bool:
    try:
        async with measure.serving(address, content) as port:
            # bash's own /dev/tcp: a minimal system has no other client.
            argv = ["bash", "-c", _FETCH, "bash", FOLDER, address, str(port)]
            await use(rooms, guest, argv, _UNPACK_SECONDS)
    except (BastideError, OSError):
        return False  # a firewall between bridge and host, a guest without bash
    return True


async def use(rooms: Rooms, guest: Guest, argv: Sequence[str], deadline: float) -> str:
    """What a command writes that runs in a guest, with the tools at hand.

    Raises RunError, DeadlineExceeded, WrongState. A VM that is busy, or emulated, may leave a probe of its agent
    without an answer: it is asked again.
    """
    program = f"{FOLDER}/bin/{argv[0]}" if argv[0] in TOOLS else argv[0]
    env = {"LD_LIBRARY_PATH": f"{FOLDER}/lib"} if argv[0] in TOOLS else {}
    for tries in range(_TRIES, 0, -1):
        try:
            return (await inside.run(rooms, guest, [program, *argv[1:]], env=env, deadline=deadline)).output
        except WrongState:
            if tries == 1 or guest.vmid not in rooms.engine(guest).running():
                raise
    raise WrongState(f"{guest.title} does not answer")
