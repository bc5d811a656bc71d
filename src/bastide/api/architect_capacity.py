"""`/architect/capacity`: what still fits, of each kind."""

from bastide.api.routing import Branch

branch = Branch("/architect/capacity")
