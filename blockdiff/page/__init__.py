"""The page that blockdiff-report makes: values in, HTML out; nothing here reads a set.

Charts are SVG of a few hundred bytes each, since a page has hundreds of them.
"""
