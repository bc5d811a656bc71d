"""`/architect/compare`: the head-to-head table, measured on this host."""

from bastide.api.routing import Branch

branch = Branch("/architect/compare")
