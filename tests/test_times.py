"""
Tests for L{tcpsvc.times}.
"""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tcpsvc.times import toMicroseconds, toSeconds, toText

_MOMENTS = st.datetimes(
    datetime(1970, 1, 1),
    datetime(2200, 1, 1),
    timezones=st.just(timezone.utc),
)


class TimesTests(SynchronousTestCase):
    """
    Tests for L{toSeconds}, L{toMicroseconds} and L{toText}.
    """

    def test_seconds(self) -> None:
        """
        To the second, what is behind it is cut off.
        """
        self.assertEqual(toSeconds(0), "1970-01-01T00:00:00Z")
        self.assertEqual(toSeconds(1_800_000_000.999), "2027-01-15T08:00:00Z")

    def test_microseconds(self) -> None:
        """
        To the microsecond, all six digits are always there.
        """
        self.assertEqual(toMicroseconds(0), "1970-01-01T00:00:00.000000Z")
        self.assertEqual(toMicroseconds(1_800_000_000.5), "2027-01-15T08:00:00.500000Z")

    def test_elsewhere(self) -> None:
        """
        The zone of the machine does not matter.
        """
        before = os.environ.get("TZ")

        def restore() -> None:
            if before is None:
                os.environ.pop("TZ", None)
            else:
                os.environ["TZ"] = before
            time.tzset()

        self.addCleanup(restore)
        os.environ["TZ"] = "Asia/Kolkata"
        time.tzset()
        self.assertEqual(toSeconds(0), "1970-01-01T00:00:00Z")
        self.assertEqual(toMicroseconds(0), "1970-01-01T00:00:00.000000Z")

    @given(_MOMENTS)
    def test_readBack(self, moment: datetime) -> None:
        """
        What is written can be read back: as ISO 8601, to the resolution that a
        float of seconds has.
        """
        seconds = moment.timestamp()
        for write, resolution in ((toSeconds, 1.0), (toMicroseconds, 2e-6)):
            text = write(seconds)
            self.assertTrue(text.endswith("Z"))
            back = datetime.fromisoformat(text[:-1] + "+00:00").timestamp()
            self.assertLess(abs(back - seconds), resolution)

    @given(_MOMENTS)
    def test_widths(self, moment: datetime) -> None:
        """
        Every moment has the same width, so that times sort as text does.
        """
        seconds = moment.timestamp()
        self.assertEqual(len(toSeconds(seconds)), 20)
        self.assertEqual(len(toMicroseconds(seconds)), 27)

    def test_text(self) -> None:
        """
        Of whole microseconds too all six digits are always there.
        """
        for micros, text in (
            (0, "1970-01-01T00:00:00.000000Z"),
            (1, "1970-01-01T00:00:00.000001Z"),
            (999_999, "1970-01-01T00:00:00.999999Z"),
            (1_000_000, "1970-01-01T00:00:01.000000Z"),
            (1_800_000_000_050_000, "2027-01-15T08:00:00.050000Z"),
        ):
            self.assertEqual(toText(micros), text)

    @given(
        st.lists(
            st.integers(0, 2**32 * 1_000_000)
            | st.integers(1_799_999_990_000_000, 1_800_000_010_000_000)
        )
    )
    def test_sameText(self, moments: list[int]) -> None:
        """
        The same moment has the same text by both, in whatever order moments come.
        """
        for micros in moments:
            self.assertEqual(toText(micros), toMicroseconds(micros / 1e6))
