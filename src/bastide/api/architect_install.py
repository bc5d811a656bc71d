"""`/architect/install`: a catalog entry's recipe, run in a guest."""

from bastide.api.routing import Branch

branch = Branch("/architect/install")
