# -*- test-case-name: tests.test_endpoints_arguments -*-

"""
The arguments of an endpoint string, given to the parameters of a function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature

from attrs import frozen


@frozen
class Option:
    """
    One thing that can be said in an endpoint string.

    @ivar required: Whether it has to be.
    @ivar onlyByName: Whether it can only be said as C{NAME=VALUE}.
    @ivar check: Raises L{ValueError} if a value is not right.
    """

    name: str
    required: bool = False
    onlyByName: bool = False
    check: Callable[[str], object] = str


def optionsOf(function: Callable[..., object]) -> tuple[Option, ...]:
    """
    The parameters of a function, but for C{reactor}, as options.
    """
    return tuple(
        Option(one.name, one.default is Parameter.empty)
        for one in signature(function).parameters.values()
        if one.name != "reactor"
    )


def bound(
    kind: str,
    options: Sequence[Option],
    arguments: Sequence[str],
    named: Mapping[str, str],
) -> dict[str, str]:
    """
    Give each argument of an endpoint string to an option: those that have a name by
    it, the others in order to the options that are left. What is required may not
    be empty either.

    @param kind: What the string begins with, such as C{tcp}.
    @return: The values of the options that are given.
    @raise ValueError: If there are too few arguments or too many, or one of another
        name, or a value is not right.
    """
    names = [option.name for option in options]
    required = [option.name for option in options if option.required]
    wanted = ":".join((kind, *(name.upper() for name in required))) + " is wanted"
    for name in named:
        if name not in names:
            raise ValueError(
                f"{kind}: there is no option {name!r}, only {', '.join(names)}"
            )
    places = [
        option.name
        for option in options
        if not option.onlyByName and option.name not in named
    ]
    if len(arguments) > len(places):
        raise ValueError(
            f"{kind}: too many parts: {wanted}; an option is written NAME=VALUE, "
            r"and a colon within a value \:"
        )
    given = {**named, **dict(zip(places, arguments, strict=False))}
    for name in required:
        if not given.get(name):
            raise ValueError(f"{kind}: {name.upper()} is missing: {wanted}")
    for option in options:
        if option.name in given:
            try:
                option.check(given[option.name])
            except ValueError as error:
                raise ValueError(
                    f"{kind}: {option.name} {given[option.name]!r}: {error}"
                ) from None
    return given


def number(least: int, most: int = 999999999) -> Callable[[str], object]:
    """
    @return: Checks whether a value is a number from C{least} to C{most}.
    """

    def check(value: str) -> None:
        if not (value.isascii() and value.isdecimal() and least <= int(value) <= most):
            raise ValueError(f"a number from {least} to {most} is wanted")

    return check
