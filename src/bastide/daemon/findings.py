"""What a running daemon adds to `doctor`: its storages, and records of its state that cannot be read."""

from bastide.base.errors import BastideError
from bastide.base.layout import Layout
from bastide.cli.hosting import Finding
from bastide.client.http import Client
from bastide.client.transport import UnixTransport


def storages(layout: Layout) -> list[Finding]:
    """By what means guests on each storage share what they were made of; nothing without a daemon."""
    try:
        with Client(UnixTransport(layout.socket)) as client:
            rows: list[dict[str, str]] = client.get("/bastide/storage")
    except BastideError:
        return []
    from bastide.host.programs import missing  # noqa: PLC0415 - only this needs it

    found = []
    for row in rows:
        for program in row.get("lacks", "").split():
            message, _, advice = missing(program).partition(": ")
            found.append(Finding(f"storage {row['storage']}", "warn", f"{row['type']}, inactive: {message}", advice))
        means = row.get("copy-on-write")
        text = f"guests share what they were made of: {means}" if means else "every guest gets a copy"
        found.append(Finding(f"storage {row['storage']}", "ok", f"{row['type']}: {text}"))
    return found


def records(layout: Layout) -> list[Finding]:
    """The records of the state that cannot be read; nothing without a daemon."""
    try:
        with Client(UnixTransport(layout.socket)) as client:
            rows: list[dict[str, str]] = client.get("/bastide/records")
    except BastideError:
        return []
    advice = "bastide record show KEY, then bastide record repair KEY FILE, or bastide record remove KEY"
    return [Finding(f"record {row['key']}", "fail", f"it cannot be read: {row['reason']}", advice) for row in rows]
