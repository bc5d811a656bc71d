"""`/architect/review`: guests of the wrong size or the wrong kind."""

from bastide.api.routing import Branch

branch = Branch("/architect/review")
