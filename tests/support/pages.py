"""Lists that are longer than one answer of an object store."""


def shorten_pages(bucket, most=2):
    """Have a Bucket's lists come in pages of so few names."""
    events = bucket._client._client.meta.events
    for operation, limit in {
        "ListObjectsV2": "MaxKeys", "ListObjectVersions": "MaxKeys", "ListMultipartUploads": "MaxUploads",
    }.items():  # fmt: skip
        events.register(
            f"provide-client-params.s3.{operation}", lambda params, limit=limit, **_: {limit: most, **params}
        )
