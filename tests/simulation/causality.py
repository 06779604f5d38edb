"""Who had seen what: of one order, which values came after which, and whether syncd may put one in another's place.

Each value an outside writer sets is new, so a value stands for the one edit that made it. Its past is what its writer
had seen on that side, and the past of that. "Unbound" is a value too, with a past, though it has no name; and so are
rows that cannot be read, or that `where` does not select: they are not absent.

syncd only copies. What it puts on a side must come after what stood there (its writer had seen that), or win by policy,
or be decided by a person; and it must never come before (sync-rules.md 15).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from syncd.core.model import MaybeOwner, OnConflict, Owner, Policy, Side
from syncd.core.policy import SOURCE


class Veiled:
    """What stands for rows of the table that say something, but no binding that syncd may read."""

    def __repr__(self) -> str:
        return "veiled"


VEILED = Veiled()

Reading: TypeAlias = MaybeOwner | Veiled
"""What a side says of an order."""


@dataclass(eq=False, slots=True)
class Token:
    """One value as it came to be.

    Args:
        value: The value.
        past: All values its writer had seen, or might have learned of through those.
        perhaps: What its writer may have known of the other side: both were unbound.
        removed: For "unbound": the value that was taken away.
    """

    value: Reading
    past: frozenset[Token] = field(default_factory=frozenset)
    perhaps: frozenset[Token] = field(default_factory=frozenset)
    removed: Token | None = None

    def may_know(self, other: Token) -> bool:
        """Return whether this one's writer may have known the other, or, of a removal, one that did the same.

        Both sides do the same when each of them unbinds an order that both had bound alike.
        """
        if other in self.past or other in self.perhaps or any(other in one.perhaps for one in self.past):
            return True
        return other.removed is not None and any(one.removed in {other.removed, *other.past} for one in self.past)


class OrderCausality:
    """The values of one order on both sides, in the order they came.

    Args:
        policy: The link's policy.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._source = SOURCE.get(policy.direction)
        unbound = Token(None)
        self._begin(unbound, unbound)
        self._new = False

    def _begin(self, crm: Token, table: Token) -> None:
        self._now = {Side.CRM: crm, Side.TABLE: table}
        self._readable = dict(self._now)
        self._seen = {side: {token, *token.past} for side, token in self._now.items()}
        nothing = Token(None)
        self._unbound = {side: token if token.value is None else nothing for side, token in self._now.items()}
        self._agreed: Reading = None
        self._known = {token.value: token for token in (crm, table) if isinstance(token.value, Owner)}
        self._left: dict[Side, set[Token]] = {side: set() for side in Side}
        self._source_line = [self._now[self._source]] if self._source is not None else []
        self._copied = 0

    def now(self, side: Side) -> Reading:
        """Return what stands on a side."""
        return self._now[side].value

    def forget(self) -> None:
        """The link was rebased: nothing is agreed, and what came before what is not known until it is."""
        crm, table = self._now[Side.CRM].value, self._now[Side.TABLE].value
        both = Token(crm)
        self._begin(*((both, both) if crm == table else (Token(crm), Token(table))))
        self._new = True

    def excuse(self) -> None:
        """A person took the order back to what was recorded: until it is in step again, nothing is held against it."""
        self._new = True

    def settled(self, agreed: MaybeOwner, *, in_flight: bool) -> None:
        """An act came to its end; this is what is agreed since, and whether the journal has writes left open."""
        if in_flight or not self.now(Side.CRM) == self.now(Side.TABLE) == agreed:
            return
        self._new = False
        if self._source is not None:
            self._copied = max(self._copied, self._source_line.index(self._now[self._source]))

    def outsider(self, side: Side, after: Reading) -> None:
        """Somebody else changed a side; a value that was there before and comes back is that value."""
        seen, other = self._now[side], self._now[side.other]
        perhaps = other.past | {other} if seen.value is None and other.value is None else frozenset()
        known = self._known.get(after) if isinstance(after, Owner) else None
        token = known or Token(
            after, frozenset(self._seen[side]), perhaps, self._readable[side] if after is None else None
        )
        if isinstance(after, Owner):
            self._known[after] = token
        if not isinstance(seen.value, Veiled) and not isinstance(after, Veiled):
            self._left[side].add(seen)
        self._left[side].discard(token)
        self._put(side, token)
        if side is self._source and token not in self._source_line:
            self._source_line.append(token)

    def ours(self, side: Side, after: MaybeOwner, *, agreed: bool, by_hand: bool) -> str:
        """Syncd wrote a side; return what is wrong about that, as a sentence, or nothing.

        Args:
            side: The side.
            after: What stands there now.
            agreed: The order may have been agreed on some value when it was planned.
            by_hand: A person asked for this order: nothing is wrong.
        """
        token = self._unbound[side.other] if after is None else self._known.get(after)
        if token is None:
            self._put(side, Token(after))
            return "" if by_hand or self._new else f"{after} was written to the {side.value}, and nobody ever set it"
        wrong = "" if by_hand or self._new else self._judge(side, self._now[side], token, agreed=agreed)
        self._put(side, token)
        self._agreed = token.value
        if token in self._source_line:
            self._copied = max(self._copied, self._source_line.index(token))
        return wrong

    def _judge(self, side: Side, seen: Token, token: Token, *, agreed: bool) -> str:
        what = f"{_text(token)} was put in the place of {_text(seen)} in the {side.value}"
        if isinstance(seen.value, Veiled):
            return f"{what}, which cannot be read"
        if self._source is not None:
            return self._judge_one_way(side, token, what, agreed=agreed)
        return self._judge_two_way(side, seen, token, what)

    def _judge_two_way(self, side: Side, seen: Token, token: Token, what: str) -> str:
        if token in seen.past:
            return f"{what}, whose writer had seen it and replaced it"
        if token in self._left[side]:
            return f"{what}: it came back where somebody had replaced it"
        if token.may_know(seen) or (seen.value is None and self._agreed is None):
            return ""
        if self._policy.on_conflict is OnConflict.HOLD:
            return f"{what}, which its writer had not seen"
        wins = side.other.value == self._policy.on_conflict.value
        return "" if wins else f"{what}, though the other side is to win"

    def _judge_one_way(self, side: Side, token: Token, what: str, *, agreed: bool) -> str:
        if side is self._source:
            return f"{what}, and the link is {self._policy.direction.value}"
        if token not in self._source_line:
            return f"{what}, which is not the source's value"
        if self._source_line.index(token) < self._copied:
            return f"{what}, though the source had left that value behind"
        if token.value is None and not agreed:
            return f"{what}, which was never agreed"
        return ""

    def _put(self, side: Side, token: Token) -> None:
        self._now[side] = token
        self._seen[side] |= {token, *token.past}
        if not isinstance(token.value, Veiled):
            self._readable[side] = token
        if token.value is None:
            self._unbound[side] = token
        if self._now[side].value == self._now[side.other].value:
            self._agreed = token.value


def _text(token: Token) -> str:
    return "unbound" if token.value is None else str(token.value)


__all__ = ["VEILED", "OrderCausality", "Reading", "Veiled"]
