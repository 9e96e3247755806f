"""A stored version made anew from its chain, without its source.

Format: blockdiff-formats(5), "Rewriting a version".
"""
