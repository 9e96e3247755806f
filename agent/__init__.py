"""What runs on a source host and nowhere else: pushed into memory, stdlib only, Python 3.6 and up."""
