# -*- test-case-name: tests.test_bucket -*-

"""
Token buckets: how often something may be done, on average and at once.
"""

from __future__ import annotations

from collections import OrderedDict

from twisted.internet.interfaces import IReactorTime

MAX_DELAY = 1.0
"""
Seconds that a client is made to wait at most for coming too often.
"""

MAX_KEYS = 1024
"""
How many clients and addresses are remembered.
"""

_ROUNDING = 1e-6  # Seconds that are none: a clock may not tell them apart.


class TokenBucket:
    """
    Holds up to C{burst} tokens, and gains C{rate} of them a second. It may be
    overdrawn by what it gains in L{MAX_DELAY}.
    """

    def __init__(self, clock: IReactorTime, rate: float, burst: float) -> None:
        """
        @param rate: Tokens a second.
        @param burst: The most tokens it holds; it begins with as many.
        """
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = clock.seconds()

    def take(self) -> float:
        """
        Take a token.

        @return: For how many seconds the taker should wait; 0 if there was one.
        """
        self._fill()
        self._tokens = max(self._tokens - 1, -self._rate * MAX_DELAY)
        return self._debt()

    def wait(self) -> float:
        """
        @return: In how many seconds there is a token.
        """
        self._fill()
        wait = (1 - self._tokens) / self._rate
        return wait if wait > _ROUNDING else 0.0

    def debt(self) -> float:
        """
        @return: In how many seconds it is not overdrawn any more.
        """
        self._fill()
        return self._debt()

    def _debt(self) -> float:
        wait = -self._tokens / self._rate
        return wait if wait > _ROUNDING else 0.0

    def _fill(self) -> None:
        """
        Add what was gained since the last time.
        """
        now = self._clock.seconds()
        gained = (now - self._at) * self._rate
        self._tokens = min(self._burst, self._tokens + gained)
        self._at = now


class Reconnections:
    """
    Who comes too often: clients that are refused again and again, and addresses whose
    handshakes fail again and again. What is remembered is bounded: of more than
    L{MAX_KEYS}, those that have not come for the longest time are forgotten.
    """

    def __init__(self, clock: IReactorTime, rate: float) -> None:
        """
        @param rate: How often a second one may come; 0 disables the limit.
        """
        self._clock = clock
        self._rate = rate
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def came(self, key: str) -> float:
        """
        Somebody has come.

        @param key: The client, or the address.
        @return: For how many seconds the answer should wait, L{MAX_DELAY} at most.
        """
        if not self._rate:
            return 0.0
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = TokenBucket(self._clock, self._rate, max(1.0, self._rate))
            if len(self._buckets) >= MAX_KEYS:
                self._buckets.popitem(last=False)
        self._buckets[key] = bucket
        return bucket.take()

    def delay(self, key: str) -> float:
        """
        @return: For how many seconds the next one should wait, L{MAX_DELAY} at most.
        """
        bucket = self._buckets.get(key)
        return 0.0 if bucket is None else bucket.debt()
