"""Which server and which account: options, option files, environment, in this order."""

import pytest

from blockdiff.mysql.account import Account, Tls, resolve

OPTIONS = "user password host port socket db ssl ssl_ca ssl_cert ssl_key ssl_verify_server_cert"

NOTHING = dict.fromkeys(OPTIONS.split())


@pytest.mark.parametrize(
    "options, said, environment, expected",
    [
        ({}, {"socket": "/s"}, {"USER": "me"}, Account("me", socket="/s")),
        ({}, {"socket": "/s"}, {}, Account("root", socket="/s")),
        ({"user": "a"}, {"user": "b", "socket": "/s"}, {"USER": "c"}, Account("a", socket="/s")),
        ({"port": 3307}, {"socket": "/s"}, {}, Account("root", port=3307)),
        ({"host": "db00"}, {"socket": "/s", "port": "3308"}, {}, Account("root", host="db00", port=3308)),
        *(({}, {"socket": "/s", "protocol": tcp}, {}, Account("root")) for tcp in ("tcp", "TCP", "Tcp")),
        ({"host": "db00"}, {"password": "f"}, {"MYSQL_PWD": "e"}, Account("root", "f", "db00")),
        ({"host": "db00"}, {}, {"MYSQL_PWD": "e"}, Account("root", "e", "db00")),
        ({"host": "db00", "password": ""}, {"password": "f"}, {}, Account("root", "", "db00")),
        ({"host": "db00"}, {"ssl-ca": "/ca"}, {}, Account("root", host="db00", tls=Tls("/ca"))),
        ({"host": "h"}, {"ssl-mode": "REQUIRED"}, {}, Account("root", host="h", tls=Tls())),
        ({"host": "h"}, {"ssl-verify-server-cert": ""}, {}, Account("root", host="h", tls=Tls(verify=True))),
        ({"host": "h"}, {"ssl": "0"}, {}, Account("root", host="h")),
    ],
)
def test_options_go_before_files_and_files_before_the_environment(options, said, environment, expected):
    found = resolve({**NOTHING, **options}, said, environment)

    assert (expected.user, expected.password, expected.host) == (found.user, found.password, found.host)
    assert (expected.port, expected.socket, expected.tls) == (found.port, found.socket, found.tls)
    assert "f" not in repr(found).partition("password")[2].partition(",")[0]
