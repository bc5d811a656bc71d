"""What the server writes into the scope of each connection of its own accord, never a client."""

LOCAL = "bastide.local"
"""Set for a connection of the UNIX socket, whose peer was seen to be root on this machine."""

STOPPING = "bastide.stopping"
"""The event that is set when the server ends."""
