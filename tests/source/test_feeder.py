"""The parent's digests on their way to the agent."""

import io

from programs import until

from blockdiff.source import feeder
from blockdiff.wire import messages


class Taken:
    """A link that keeps what is sent."""

    def __init__(self):
        self.frames, self.closed = [], False

    def send_metered(self, kind, parts):
        self.frames.append((kind, b"".join(parts)))

    def close(self):
        self.closed = True


class Dribble(io.BytesIO):
    """A file that gives a few bytes at a time."""

    def read(self, size):
        return super().read(min(size, 7))


def test_digests_are_sent_whole_however_they_are_read():
    digests = bytes(range(160))
    link = Taken()
    feeder.Feeder(link, Dribble(digests))
    until(lambda: b"".join(data for _, data in link.frames) == digests)
    assert {kind for kind, _ in link.frames} == {messages.DIGESTS}
    assert {len(data) % 16 for _, data in link.frames} == {0}


def test_a_file_that_cannot_be_read_ends_the_link_and_is_kept_as_the_cause():
    closed = io.BytesIO()
    closed.close()
    link = Taken()
    found = feeder.Feeder(link, closed)
    until(lambda: link.closed)
    assert isinstance(found.failure, ValueError)
