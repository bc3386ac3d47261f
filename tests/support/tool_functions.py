"""Functions whose schemas are compared with transformers' get_json_schema (oracle/tools_transformers.py, tests/parity/test_tool_schemas.sh). Those
called wrong_... must be refused by both."""

import enum
from typing import Any, Dict, List, Literal, Optional, Tuple, Union


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"
    NONE = None


class Empty(enum.Enum):
    pass


class Thing:
    pass


def _doc(hint, default=None, has_default=False):
    pass


def whole(x: int):
    """A whole number.

    Args:
        x: The number
    """


def number(x: float):
    """A number.

    Args:
        x: The number
    """


def text(x: str, y: bool):
    """Text and truth.

    Args:
        x: The text
        y: The truth
    """


def nothing(x: None):
    """Nothing.

    Args:
        x: Nothing at all
    """


def no_arguments():
    """Takes nothing."""


def bare(a: list, b: tuple, c: dict, d: Any):
    """Bare containers.

    Args:
        a: A list
        b: A tuple
        c: An object
        d: Anything
    """


def lists(a: list[int], b: List[List[str]], c: list[Any]):
    """Lists.

    Args:
        a: Of numbers
        b: Of lists
        c: Of anything
    """


def objects(a: dict[str, int], b: Dict[str, List[float]], c: dict[int, Any]):
    """Objects.

    Args:
        a: Numbers by name
        b: Lists by name
        c: Anything
    """


def tuples(a: tuple[int, str], b: Tuple[float, float, bool]):
    """Tuples.

    Args:
        a: Two
        b: Three
    """


def optional(a: Optional[int], b: int | None = None, c: Optional[List[int]] = None):
    """Optional ones.

    Args:
        a: A number or nothing
        b: Another
        c: A list
    """


def unions(a: int | str, b: Union[str, int, bool], c: int | str | None, d: list | tuple, e: Union[int, int]):
    """Unions.

    Args:
        a: Two types
        b: Three types
        c: Two, or nothing
        d: The same twice
        e: One
    """


def structured(a: int | list[str], b: Optional[Union[int, dict[str, int]]], c: Literal["x"] | int):
    """Unions with structure.

    Args:
        a: A number or texts
        b: Or nothing
        c: A word or a number
    """


def literals(a: Literal["x", "y"], b: Literal[1, 2, 3], c: Literal["x", 1, None, True, "y"]):
    """Literals.

    Args:
        a: Words
        b: Numbers
        c: Mixed
    """


def enums(a: Color, b: Mixed, c: Optional[Color] = None):
    """Enums.

    Args:
        a: A color
        b: Mixed
        c: A color or nothing
    """


def choices(drink: str, size: int):
    """Serves a drink.

    Args:
        drink: What to drink (choices: ["tea", " coffee "])
        size: How much (choices: [1, 2])
    """


def defaults(a: int, b: int = 3, c: str = "x"):
    """Some have defaults.

    Args:
        a: Needed
        b: Not needed
        c: Not needed either
    """


def all_defaults(a: int = 1):
    """Nothing is required.

    Args:
        a: A number
    """


def returns(x: int) -> float:
    """Halves.

    Args:
        x: The number

    Returns:
        Half of it,
        as a number
    """


def returns_bare(x: int) -> Optional[str]:
    """Halves.

    Args:
        x: The number
    """


def returns_thing(x: int) -> Thing:
    """Makes a thing.

    Args:
        x: The number

    Returns:
        The thing
    """


def raises(x: int) -> int:
    """May fail.

    Args:
        x: The number

    Returns:
        It

    Raises:
        ValueError: if it is wrong
    """


def long_description(x: int, y: int):
    """First line.

    A second paragraph, which
    goes on.

    Args:
        x: A description that
            goes on here
            and here
        y: Another
    """


def typed_docstring(x: int, y: str):
    """Types in the docstring.

    Args:
        x (int): The number
        y (str, optional): The text: with a colon
    """


def blank_lines(x: int, y: int):
    """Blank lines between.

    Args:

        x: One

        y: Two
    """


def string_annotation(x: "int", y: "list[str]") -> "str":
    """Annotations as text.

    Args:
        x: The number
        y: The texts
    """


def unicode_text(größe: int, naïve: str):
    """Nicht nur ASCII: größe, 東京 🙂.

    Args:
        größe: Die Größe
        naïve: Ein "Text" mit \\ und \t
    """


def keyword_only(a: int, *, b: str = "x"):
    """Keyword only.

    Args:
        a: One
        b: Two
    """


def rest(a: int, *args: int, **kwargs: str):
    """Any number.

    Args:
        a: One
        args: More
        kwargs: Named
    """


def nested(a: Optional[Dict[str, List[Tuple[int, str]]]] = None):
    """Deep.

    Args:
        a: Deep inside
    """


def one_line(x: int):
    """One line. Args and Returns are words here.

    Args:
        x: A number
    """


def extra_described(x: int):
    """Describes more than it has.

    Args:
        x: A number
        z: Nobody
    """


def wrong_no_docstring(x: int):
    pass


def wrong_no_hint(x):
    """No hint.

    Args:
        x: The number
    """


def wrong_not_described(x: int, y: int):
    """One is missing.

    Args:
        x: The number
    """


def wrong_class(x: Thing):
    """A class.

    Args:
        x: The thing
    """


def wrong_set(x: set):
    """A set.

    Args:
        x: The set
    """


def wrong_tuple(x: tuple[int, ...]):
    """Any length.

    Args:
        x: The tuple
    """


def wrong_one_tuple(x: tuple[int]):
    """One element.

    Args:
        x: The tuple
    """


def wrong_empty_enum(x: Empty):
    """Nothing to choose.

    Args:
        x: The choice
    """


def wrong_set_of(x: set[int]):
    """A set.

    Args:
        x: The set
    """
