"""`completion`: the script that teaches a shell to complete our commands and the guests' names."""

from enum import StrEnum
from typing import Annotated

import typer


class Shell(StrEnum):
    """A shell we can teach."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell to complete in.", show_choices=True)],
) -> None:
    """Print the completion script of a shell.

    bash: source <(bastide completion bash) in ~/.bashrc. zsh: the same in ~/.zshrc.
    fish: bastide completion fish > ~/.config/fish/completions/bastide.fish
    """
    from typer._completion_shared import get_completion_script  # noqa: PLC0415 - only this command needs it

    print(get_completion_script(prog_name="bastide", complete_var="_BASTIDE_COMPLETE", shell=shell.value))  # nosec B604 - a word
