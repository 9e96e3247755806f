"""Where the files of sets are: a folder, or a part of a bucket in an object store.

What reads or writes a set's files asks a Place for them; only here is it known what kind it is.
"""
