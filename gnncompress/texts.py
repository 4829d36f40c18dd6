"""Text that came from outside (names, paths, messages) as it may be shown or handed on."""

# What a spreadsheet takes for the beginning of a formula, also in the full width of East Asian keyboards.
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def visible(text: str) -> str:
    r"""Return ``text`` with every character that does not print as its escape, such as ``\x1b``.

    A terminal obeys control characters, turns the direction of writing at others and fails at surrogates. Line feeds
    and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else repr(one)[1:-1] for one in text)


def one_line(text: object) -> str:
    """Return ``text`` without line feeds and repeated spaces."""
    return " ".join(str(text).split())


def inert(cell: str) -> str:
    """Return a cell of text that no spreadsheet computes: with an apostrophe before what begins like a formula.

    Numbers stay as they are, also those with a sign.
    """
    if not cell.lstrip().startswith(_FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
