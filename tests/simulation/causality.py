"""Causality of one order's values: which writer had seen which, and whether syncd may replace one by another.

Each edit of an outside writer is a token of its own, also one that sets what stood there before. Its past is what its
writer had seen on that side, and the past of that. "Unbound" is a value too, with a past, though it has no name; and so
are rows that cannot be read, or that `where` does not select: they are not absent.

An upheaval is no edit. A backup that is restored, a reload, rows that are hidden, a key that cannot be read, a trigger:
nobody looked at an order there and asked for anything. What stood there before comes back as the token it was, and what
is gone is a token that knows nothing. What syncd copies of an upheaval is an `Upset`, and the judge holds it against the
guards: they bound what an upheaval may do, and nothing else does.

syncd only copies. What it puts on a side must come after what stood there (its writer had seen that), or win by policy,
or be decided by a person; and it must never come before (sync-rules.md 15).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from syncd.core.model import MaybeOwner, OnConflict, Owner, Policy, Side
from syncd.core.policy import SOURCE


class Veiled:
    """Stands for rows of the table that syncd may not or cannot read as a binding; they are not absent."""

    def __repr__(self) -> str:
        return "veiled"


VEILED = Veiled()

Reading: TypeAlias = MaybeOwner | Veiled
"""What a side says of an order."""


class Upset(NamedTuple):
    """What is wrong with a write of syncd, as a sentence; `upheaval` is the kind of upheaval it comes from, if it does."""

    doubt: str
    upheaval: str = ""


FINE = Upset("")


@dataclass(eq=False, slots=True)
class Token:
    """One value as it came to be.

    Args:
        value: The value.
        past: All values its writer had seen, or might have learned of through those.
        perhaps: What its writer may have known of the other side: both were unbound, or had equal values.
        removed: For "unbound": the value that was taken away.
        again: What syncd took for agreed when this was set, where this is that value again: to know that is to know this.
        upheaval: Of what kind the upheaval was that took the value away; empty where somebody unbound the order.
    """

    value: Reading
    past: frozenset[Token] = field(default_factory=frozenset)
    perhaps: frozenset[Token] = field(default_factory=frozenset)
    removed: Token | None = None
    upheaval: str = ""
    again: Token | None = None

    def may_know(self, other: Token) -> bool:
        """Return whether this one's writer may have known the other, or, of a removal, one that did the same.

        Both sides do the same when each of them unbinds an order that both had bound alike.
        """
        if other.again is not None and self.may_know(other.again):
            return True
        if other in self.past or other in self.perhaps or any(other in one.perhaps for one in self.past):
            return True
        return other.removed is not None and any(one.removed in {other.removed, *other.past} for one in self.past)

    def __str__(self) -> str:
        return "unbound" if self.value is None else str(self.value)


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
        self._known: dict[Side, dict[Owner, Token]] = {side: {} for side in Side}
        for side, token in self._now.items():
            if isinstance(token.value, Owner):
                self._known[side][token.value] = token
        self._left: dict[Side, set[Token]] = {side: set() for side in Side}
        self._source_line = [self._now[self._source]] if self._source is not None else []
        self._copied = 0
        self._upheavals: dict[Side, str] = {}
        self._perhaps: dict[Side, set[Token]] = {side: set() for side in Side}
        self._shared = {side: token for side, token in self._now.items() if crm.value == table.value}
        """What both sides had when they were last in step, or syncd copied something: what it takes for agreed."""

    def now(self, side: Side) -> Reading:
        """Return what a side says now."""
        return self._now[side].value

    def had(self, side: Side, value: Reading) -> bool:
        """Return whether an owner ever stood on a side."""
        return isinstance(value, Owner) and value in self._known[side]

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
        if in_flight:
            return
        if isinstance(agreed, Owner) and all(agreed in self._known[side] for side in Side):
            # Also where a side has moved on by now: to set this value again is to set what syncd takes for agreed.
            self._shared = {side: self._known[side][agreed] for side in Side}
        if not self.now(Side.CRM) == self.now(Side.TABLE) == agreed:
            return
        self._new = False
        self._upheavals.clear()
        self._shared = dict(self._now)
        for side in Side:  # a writer who looks at one side now has seen the other one
            self._seen[side] |= self._seen[side.other]
        if self._source is not None:
            # Also where a backup was restored, and its values have been copied since: from there it goes on.
            token = self._now[self._source]
            self._source_line.remove(token)
            self._source_line.append(token)
            self._copied = len(self._source_line) - 1

    def shake(self, upheaval: str) -> None:
        """The state database went back in time: what syncd knows of both sides is not what it knew.

        It may be as it was all the same: what happened to a side before is what happened to it.
        """
        self._upheavals = dict.fromkeys(Side, upheaval) | self._upheavals

    def approve(self, upheaval: str) -> None:
        """A person knows of such an upheaval, and wants its consequences."""
        self._upheavals = {
            side: f"{kind}, approved" if kind == upheaval else kind for side, kind in self._upheavals.items()
        }

    def upheaval(self, side: Side, after: Reading, kind: str) -> None:
        """Note a change that no person asked for: a value that was there before is the same token again."""
        known = self._known[side].get(after) if isinstance(after, Owner) else None
        token = known or Token(after, upheaval=kind)
        self._left[side].discard(token)
        self._put(side, token)
        self._upheavals[side] = kind
        if side is self._source and token not in self._source_line:
            self._source_line.append(token)

    def outsider(self, side: Side, after: Reading) -> None:
        """Somebody else changed a side, knowing what stood there."""
        seen, other = self._now[side], self._now[side.other]
        perhaps = frozenset(self._perhaps[side])
        if seen.value is None and other.value is None:
            perhaps |= other.past | {other}
        token = Token(after, frozenset(self._seen[side]), perhaps, self._readable[side] if after is None else None)
        shared = self._shared.get(side)
        if shared is not None and shared.value == after:
            token.again = shared  # as if nothing had been
        if not isinstance(seen.value, Veiled) and not isinstance(after, Veiled):
            self._left[side].add(seen)
        self._left[side].discard(token)
        self._put(side, token)
        if side is self._source and token not in self._source_line:
            self._source_line.append(token)

    def ours(self, side: Side, after: MaybeOwner, *, agreed: bool, by_hand: bool) -> Upset:
        """Syncd wrote a side; return what is wrong about that.

        Args:
            side: The side.
            after: What stands there now.
            agreed: The order may have been agreed on some value when it was planned.
            by_hand: A person asked for this order: nothing is wrong.
        """
        token = self._unbound[side.other] if after is None else self._known_as(after, side)
        if token is None:
            self._put(side, Token(after))
            self._shared.clear()
            doubt = f"{after} was written to the {side.value}, and nobody ever set it"
            return FINE if by_hand or self._new else Upset(doubt)
        wrong = FINE if by_hand or self._new else self._upset(side, self._now[side], token, agreed=agreed)
        self._put(side, token)
        self._agreed = token.value
        self._shared = dict.fromkeys(Side, token)
        if token in self._source_line:
            self._copied = max(self._copied, self._source_line.index(token))
        return wrong

    def _known_as(self, owner: Owner, side: Side) -> Token | None:
        """Given what was written to a side, return the edit that it comes from: the other side's newest of that value."""
        return self._known[side.other].get(owner) or self._known[side].get(owner)

    def _upset(self, side: Side, seen: Token, token: Token, *, agreed: bool) -> Upset:
        upheaval = token.upheaval or self._upheavals.get(side.other) or self._upheavals.get(side) or ""
        if token.upheaval and isinstance(seen.value, Owner):
            return Upset(f"{seen} was removed from the {side.value}, and nobody asked for that", upheaval)
        doubt = self._judge(side, seen, token, agreed=agreed)
        return Upset(doubt, upheaval) if doubt else FINE

    def _judge(self, side: Side, seen: Token, token: Token, *, agreed: bool) -> str:
        what = f"{token} was put in the place of {seen} in the {side.value}"
        if isinstance(seen.value, Veiled):
            return f"{what}, which cannot be read"
        if self._source is not None:
            return self._judge_one_way(side, token, what, agreed=agreed)
        if seen.value is None and not agreed:
            return ""  # on one side only, and nothing says that it ever was on both
        if not agreed and self._policy.on_conflict.value == side.other.value:
            return ""
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
        # A reload puts back the very value that was there before: what the source shows now is not left behind.
        if self._source_line.index(token) < self._copied and token != self._now[side.other]:
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
        if isinstance(token.value, Owner):
            self._known[side][token.value] = token
        if self._now[side].value == self._now[side.other].value:
            self._agreed = token.value
            if isinstance(token.value, Owner):
                # A writer who goes on from one of two equal values may have seen the other one.
                for one in Side:
                    self._perhaps[one] |= {self._now[one.other], *self._now[one.other].past}


__all__ = ["FINE", "VEILED", "OrderCausality", "Reading", "Upset", "Veiled"]
