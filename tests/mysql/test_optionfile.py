"""MySQL's option files, by the rules of its own client."""

from blockdiff.mysql import optionfile


def test_option_files_follow_the_clients_rules(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.cnf").write_text("[client]\nuser = second\n")
    (tmp_path / "more" / "ignored.txt").write_text("[client]\nuser = third\n")
    (tmp_path / "one.cnf").write_text("[mysqllock]\nport=3307\n")
    (tmp_path / "my.cnf").write_text(
        "# comment\n; comment\n[mysqld]\nuser=mysql\n[client]\nuser=first\n"
        'password = "a#b\\"c" # comment\nssl_ca=/x y/ca.pem#comment\nssl\n'
        f"!includedir {tmp_path}/more\n!include one.cnf\n"
    )
    found = optionfile.read([tmp_path / "absent.cnf", tmp_path / "my.cnf"])

    expected = {"user": "second", "password": 'a#b"c', "ssl-ca": "/x y/ca.pem", "ssl": "", "port": "3307"}
    assert expected == found.values
    assert found.warnings == []


def test_an_option_file_that_everybody_may_write_is_not_read(tmp_path):
    path = tmp_path / "my.cnf"
    path.write_text("[client]\npassword=planted\n")
    path.chmod(0o666)

    found = optionfile.read([path])

    assert found.values == {}
    assert len(found.warnings) == 1


def test_option_files_that_include_each_other_end(tmp_path):
    path = tmp_path / "my.cnf"
    path.write_text("!include my.cnf\n[client]\nuser=me\n")

    assert optionfile.read([path]).values["user"] == "me"
