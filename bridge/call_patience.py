"""How much of one answer is looked at in vain before all the rest of it counts as text.

What comes to nothing is looked at again, for what may begin behind its first character: without
these limits a hostile answer takes quadratic time, and no real one comes near them.
"""

AT_ONCE = 2_048  # characters; the rest of them is copied behind each head that came to nothing
_MOST_LOOKS = 20_000  # of 20 to 150 us each (measured); 500 KB of tags, calls or fences make fewer
_MOST_AGAIN = 131_072  # characters
_SHORT = 4_096  # characters; so many may stand behind a mark when it is seen that it begins nothing


def in_pieces(text: str) -> list[str]:
    """A long text as it might have come."""
    return [text[at : at + AT_ONCE] for at in range(0, len(text), AT_ONCE)]


class Patience:
    """What was spent on one answer; `over` once that is enough."""

    def __init__(self) -> None:
        self.over = False
        self._looks = 0  # at what may be the head of a call
        self._again = 0  # characters that were held and have to be looked at again

    def note_look(self) -> None:
        self._looks += 1
        self.over = self.over or self._looks > _MOST_LOOKS

    def note_failure(self, again: int, *, had_body: bool) -> None:
        """What was held is no call; `again` characters of it have to be looked at again. What
        looked like a whole call counts as many, however short it was."""
        if had_body:
            again = max(again, _SHORT)
        if again >= _SHORT:
            self._again += again
        self.over = self.over or self._again > _MOST_AGAIN
