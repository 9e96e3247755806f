"""Requests to an object store with the S3 API: what is fixed of them, what is sent again, and the errors.

Only this module uses botocore. Content-MD5 goes with all that is stored, and no other checksum: stores that are not
Amazon's refuse or ignore those, but all know this one.
"""

import functools
import urllib.parse
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ProxyConnectionError,
    SSLError,
)

from blockdiff.errors import BlockdiffError, StoreFailed, StoreRefused, StoreUnreachable, StoreUnreadable
from blockdiff.place.answers import Answer, Refused, Unknown, sorted_out
from blockdiff.printable import quoted

T = TypeVar("T")

# botocore alone reads the second one only; Amazon's other clients read the first
_REGION = {"region": ("region", ["AWS_REGION", "AWS_DEFAULT_REGION"], None, None)}
CONNECT_S = 10
CONNECTIONS = 16  # kept open at most


class Client:
    """One bucket's client, for any thread."""

    def __init__(self, bucket: str, read_s: float, retries: int, sleep: Callable[[float], None]) -> None:
        """Find endpoint and keys where botocore looks for them.  Raises StoreRefused; asks nothing of the store.

        `read_s`: how long an answer may take; `retries`: how often a request is sent again.
        """
        self._bucket, self.retries, self._sleep = bucket, retries, sleep
        self.date: int | None = None  # seconds since 1970, by the clock of the store, at its last answer
        fixed = {
            "connect_timeout": CONNECT_S, "read_timeout": read_s, "retries": {"total_max_attempts": 1},
            "max_pool_connections": CONNECTIONS, "tcp_keepalive": True,
            "request_checksum_calculation": "when_required", "response_checksum_validation": "when_required",
        }  # fmt: skip
        try:
            session = botocore.session.get_session(_REGION)
            session.register_component("data_loader", _loader())
            # a host name for each bucket is what only Amazon is sure to have
            self._client = session.create_client("s3", config=Config(s3={"addressing_style": "path"}, **fixed))
            if urllib.parse.urlsplit(self._client.meta.endpoint_url).netloc.endswith(".amazonaws.com"):
                self._client.close()
                self._client = session.create_client("s3", config=Config(**fixed))
        except (BotoCoreError, ValueError) as error:
            raise StoreRefused(f"s3://{bucket}", _first_line(error)) from None
        self._host = urllib.parse.urlsplit(self._client.meta.endpoint_url).netloc.rpartition("@")[2]

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def call(
        self,
        operation: str,
        shown: str,
        *,
        writes: bool = False,
        expect: tuple[int, ...] = (),
        then: Callable[[Answer], T],
        wanted: Callable[[], bool] = lambda: True,
        **asked: Any,
    ) -> T:
        """Send a request, again if that may help, and return what `then` makes of its answer.

        `shown`: what it is about; `expect`: for these the caller gets Refused; `wanted`: asked before each retry.
        Raises StoreUnreachable, StoreRefused, NoRoom; else StoreFailed for what writes, StoreUnreadable for the rest.
        """
        tried = 0
        while True:
            try:
                return self.once(operation, then=then, **asked)
            except Unknown as error:
                if tried >= self.retries or not wanted():
                    raise self.failed(shown, error, writes) from None
                self.pause(tried)
                tried += 1
            except Refused as error:
                if error.status in expect:
                    raise
                raise error.ours(shown) from None

    def once(self, operation: str, *, then: Callable[[Answer], T], **asked: Any) -> T:
        """Send a request once and return what `then` makes of its answer.

        `then` raises Unknown for an answer that is not one.  Raises Unknown or Refused, and StoreRefused for what
        cannot be asked: no keys, a name that no bucket has.
        """
        body = asked.get("Body")
        if body is not None and not isinstance(body, bytes):
            body.seek(0)
        try:
            answer = getattr(self._client, operation)(Bucket=self._bucket, **asked)
            self._note_date(answer)
            return then(answer)
        except ClientError as error:
            self._note_date(error.response)
            raise _meaning(error) from None
        except (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError, SSLError) as error:
            raise Unknown(_reason(error), reached=False) from None
        except (HTTPClientError, IncompleteReadError) as error:
            raise Unknown(_reason(error)) from None
        except BotoCoreError as error:
            raise StoreRefused(f"s3://{self._bucket}", _first_line(error)) from None
        except (BlockdiffError, Unknown):
            raise
        except Exception as error:  # its parsers raise anything when an answer is not what it should be
            raise Unknown(f"answer not understood: {type(error).__name__}") from None

    def _note_date(self, answer: Answer) -> None:
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        try:
            self.date = int(parsedate_to_datetime(headers.get("date", "")).timestamp())
        except (ValueError, OverflowError):
            self.date = None

    def pause(self, tried: int) -> None:
        """Wait before a request is sent again, after so many retries."""
        self._sleep(min(0.2 * 2**tried, 5.0))

    def failed(self, shown: str, error: Unknown, writes: bool) -> BlockdiffError:
        """Return what to raise where asking again did not help."""
        if not error.reached:
            return StoreUnreachable(f"s3://{self._bucket} at {quoted(self._host)}", quoted(error.why))
        return (StoreFailed if writes else StoreUnreadable)(shown, quoted(error.why))


@functools.cache
def _loader() -> Any:
    """Return what reads botocore's descriptions of the API: a tenth of a second, once a process."""
    loader = botocore.session.get_session().get_component("data_loader")
    loader.list_available_services = lambda type_name: ["s3"]  # it would look into 900 folders for it
    return loader


def _meaning(error: ClientError) -> Unknown | Refused:
    found = error.response.get("Error", {})
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return sorted_out(status, str(found.get("Code", status)), str(found.get("Message") or ""))


def _reason(error: BaseException) -> str:
    """Return why a connection failed, without its URL."""
    step: object = error
    while isinstance(step, BaseException):
        if isinstance(step, OSError) and step.strerror:
            return step.strerror
        inner = getattr(step, "kwargs", {}).get("error") if isinstance(step, BotoCoreError) else None
        step = inner or step.__cause__ or step.__context__
    return {"ReadTimeoutError": "no answer in time"}.get(type(error).__name__, "the connection was cut")


def _first_line(error: Exception) -> str:
    return quoted((str(error).splitlines() or [type(error).__name__])[0])
