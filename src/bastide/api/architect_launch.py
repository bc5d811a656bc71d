"""`/architect/launch`: a service, from a few words about it to a guest in which it answers."""

from pydantic import model_validator

from bastide.api.architect_permits import Permits
from bastide.api.routing import Branch, Call
from bastide.model.homelab import PlannedService
from bastide.operations.architect import launch

branch = Branch("/architect/launch")


class LaunchParameters(PlannedService):
    """A service as in a plan, without `after` and `instances`; with `keep` a guest stays whose service fails."""

    keep: bool = False

    @model_validator(mode="after")
    def _alone(self) -> "LaunchParameters":
        if self.after or self.instances not in (None, 1):
            raise ValueError("one guest is launched: several, or what comes after others, are a plan's")
        return self


@branch.post("", LaunchParameters, user="all", nested=True)
async def launch_service(call: Call, p: LaunchParameters) -> str:
    """Make the guest that the architect advises, start it and install its service, as a task named by its vmid.

    An image that is missing is built or pulled. When something fails nothing is left behind; a guest that has not
    answered in time is kept. Needs what making the guest by itself needs, and for a service that is installed what
    commands in the guest need.
    """
    service = PlannedService.model_validate(p.model_dump(exclude={"keep"}))
    return str(await launch.launch(call.rooms, call.identity, service, Permits(call), keep=p.keep))
