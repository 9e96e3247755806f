"""blockdiff-backup with a set in an object store: what is refused before the store is asked."""

import pytest


@pytest.mark.parametrize("words", [
    ["s3://b/db", "lvm-dump", "--lzop", "/vol"], ["s3://b/db", "--", "cat", "/vol"], ["--break-lease", "db", "/vol"],
    ["s3://b/db", "/vol", "--with", "s3://b/db", "/vol"],
])  # fmt: skip
def test_what_cannot_be_asked_for(words, run_verb):
    keys = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    refused = run_verb("backup", *words, env={**keys, "AWS_REGION": "default"})
    assert refused.returncode == 2, refused.err
