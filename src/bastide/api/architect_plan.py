"""`/architect/plan`, `/apply`, `/destroy`: the services that a plan lists."""

from bastide.api.routing import Branch

branch = Branch("/architect")
