"""Commands confined to a guest's id range."""

import subprocess
import sys
from pathlib import Path

from bastide.host import idmap
from bastide.model.backup import Tree


def test_the_command_does_not_begin_when_its_daemon_has_ended(tmp_path: Path) -> None:
    """kill -9 may come while the helper still starts: then nobody is left whose end it could wait for."""
    argv = idmap.confined(Tree(tmp_path), 65536, ["/bin/sh", "-c", "echo begun"], writable=True)
    orphan = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", orphan, *argv], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert "the daemon has ended" in done.stderr
