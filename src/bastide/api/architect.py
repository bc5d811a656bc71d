"""`/architect`: advice for a service, and the catalog of services."""

from bastide.api.routing import Branch

branch = Branch("/architect")
