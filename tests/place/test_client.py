"""What a client takes from its environment."""

import os

import pytest

from blockdiff.place.client import Client


@pytest.mark.parametrize(
    "environment, endpoint",
    [
        ({"AWS_REGION": "eu-west-1"}, "https://s3.eu-west-1.amazonaws.com"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "https://s3.eu-west-2.amazonaws.com"),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "https://s3.eu-west-1.amazonaws.com"),
        ({"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "http://127.0.0.1:9"),
    ],
)
def test_region_and_endpoint(environment, endpoint, monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {"HOME": str(tmp_path), **environment}.items():
        monkeypatch.setenv(name, value)
    client = Client("bucket", 1.0, 0, lambda seconds: None)
    assert client._client.meta.endpoint_url == endpoint
    assert client._client.meta.region_name == environment.get("AWS_REGION", environment.get("AWS_DEFAULT_REGION"))
    client.close()
