r"""The content of \boxed{…}, in which models trained on mathematics leave their answer."""

_OPEN = "\\boxed{"


def boxed(text: str) -> list[str]:
    r"""What stands in each \boxed{…} of `text`, trimmed, braces inside it kept; one that never closes is none.

    >>> boxed(r"so \boxed{\frac{1}{2}} and \boxed{ 800 万元 }, not \boxed{7")
    ['\\frac{1}{2}', '800 万元']
    """
    found = []
    for part in text.split(_OPEN)[1:]:
        depth = 1
        for end, sign in enumerate(part):
            depth += (sign == "{") - (sign == "}")
            if depth == 0:
                found.append(part[:end].strip())
                break
    return found
