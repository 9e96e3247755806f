"""What a server says of itself."""

from blockdiff.mysql import serverfacts


def test_every_folder_of_the_server_is_named_once_and_absolute():
    said = {
        "datadir": "/srv/db/",
        "innodb_data_home_dir": "",
        "innodb_log_group_home_dir": "./",
        "innodb_undo_directory": "../undo",
        "log_bin_basename": "/srv/log/bin",
    }

    assert serverfacts.directories(said) == ["/srv/db", "/srv/log", "/srv/undo"]
    assert serverfacts.directories({}) == []
