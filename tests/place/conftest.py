"""Buckets for the tests of this folder."""

import pytest

from blockdiff.place.bucket import Bucket


@pytest.fixture
def environment(objectstore, monkeypatch):
    """Return a function that sets what clients read."""

    def use(more):
        for name, value in {**objectstore.environment, **more}.items():
            monkeypatch.setenv(name, value)

    use({})
    return use


@pytest.fixture
def at(environment, bucket):
    """Return a function that opens the test's bucket, as our programs do, but without their pauses."""
    opened = []

    def open_bucket(prefix="", *, name=bucket, endpoint=None, **options):
        if endpoint:
            environment({"AWS_ENDPOINT_URL": endpoint})
        opened.append(Bucket(name, prefix, sleep=lambda seconds: None, **options))
        return opened[-1]

    yield open_bucket
    for one in opened:
        one.close()
