"""Files as volumes."""


def sparse(path, size, *places):
    """Make a file of one hole, but for a few bytes at each of the places."""
    with open(path, "wb") as file:
        for place in places:
            file.seek(place)
            file.write(b"here")
        file.truncate(size)
