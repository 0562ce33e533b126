"""Options that several commands read into one value: written once, and given to each command's own options."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias, get_args, get_type_hints

Command: TypeAlias = Callable[..., None]


def merged(parameter: str, read: Callable[..., object], panel: str = "") -> Callable[[Command], Command]:
    """A decorator that gives a command the options of `read` in the place of its parameter `parameter`.

    The command gets what `read` makes of them. Options that the command has itself (its own default for epochs, say)
    are its own.  panel: a heading for them in the help.
    """

    def decorate(command: Command) -> Command:
        hints = get_type_hints(command, include_extras=True)
        own = dict(inspect.signature(command).parameters)
        del own[parameter]
        made = get_type_hints(read, include_extras=True)
        wanted = inspect.signature(read).parameters
        typed = [p.replace(annotation=hints[k]) for k, p in own.items()]
        typed += [p.replace(annotation=_under(panel, made[k])) for k, p in wanted.items() if k not in own]

        @functools.wraps(command)
        def filled(**given: Any) -> None:
            value = read(**{k: given[k] for k in wanted if k in given})
            command(**{parameter: value}, **{k: v for k, v in given.items() if k in own})

        del filled.__wrapped__  # inspect and typer would look through to the command's own parameters
        keyword = inspect.Parameter.KEYWORD_ONLY
        filled.__signature__ = inspect.Signature([p.replace(kind=keyword) for p in typed])  # type: ignore[attr-defined]
        filled.__annotations__ = {p.name: p.annotation for p in typed}
        return filled

    return decorate


def _under(panel: str, hint: Any) -> Any:
    """An annotation of an option, its help under a heading."""
    if not panel:
        return hint
    kind, option = get_args(hint)
    option = copy.copy(option)
    option.rich_help_panel = panel
    return Annotated[kind, option]
