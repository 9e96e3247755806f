"""Manual pages as their source has them: sections, items, options, literal blocks.

Enough of mdoc(7) to compare a page with the program; how it looks is mandoc's business.
"""

import re

import places

ROOT = places.ROOT
MAN = ROOT / "man"
_MACROS = frozenset(re.findall("..", "ArBdBlCmDlDqEdElEmEvFlItLiNdNmNoNsOcOoOpPaPcPoPpPqQlQqShSsSxTaVtXcXoXr"))
_PUNCTUATION = frozenset(",.;:()|[]")


class Page:
    """One page."""

    def __init__(self, name):
        """`name` is the file's, such as blockdiff.7."""
        self.name = name
        self.lines = (MAN / name).read_text().splitlines()

    def headings(self):
        """Return all section and subsection titles."""
        return [line[4:].strip().strip('"') for line in self.lines if re.match(r"\.S[sh] ", line)]

    def section(self, title):
        """Return the lines of a section or subsection, up to the next heading of its kind or above."""
        heading = re.compile(r'\.S[sh] "?' + re.escape(title) + '"?', re.I)
        starts = [n for n, line in enumerate(self.lines) if heading.fullmatch(line)]
        assert len(starts) == 1, f'{self.name}: "{title}" is there {len(starts)} times'
        begin = starts[0]
        ends = r"\.Sh " if self.lines[begin].startswith(".Sh") else r"\.S[sh] "
        rest = self.lines[begin + 1 :]
        return rest[: next((n for n, line in enumerate(rest) if re.match(ends, line)), len(rest))]

    def literal_blocks(self, title=None):
        """Return the text of each literal block, of one section or of the page."""
        blocks, held = [], None
        for line in self.lines if title is None else self.section(title):
            if line.startswith(".Bd -literal"):
                held = []
            elif line == ".Ed":
                text = "\n".join(held)
                for escaped, letter in (("\\(aq", "'"), ("\\-", "-"), ("\\&", ""), ("\\e", "\\")):
                    text = text.replace(escaped, letter)
                blocks.append(text)
                held = None
            elif held is not None:
                held.append(line)
        return blocks

    def mentioned_options(self):
        """Return all options that the page names, with their dashes."""
        return {option for line in self.lines for option in flags(line)}

    def described_options(self):
        """Return the options that have an item of their own."""
        found, inside = set(), False
        for line in self.lines:
            inside = inside or line.startswith(".It Xo")
            if inside or line.startswith(".It "):
                found |= flags(line)
            inside = inside and not line.startswith(".Xc")
        return found

    def marked(self, title, macro="Cm"):
        """Return all words of a section that a macro marks."""
        return {word for line in self.section(title) for word in arguments(line, macro)}


def items(lines):
    """Return (head, body) of each `.It` of a section, nested ones as part of the outer."""
    found, depth = [], 0
    for line in lines:
        depth += line.startswith(".Bl") - line.startswith(".El")
        if line.startswith(".It") and depth == 1:
            found.append((line[3:].strip(), []))
        elif found and depth:
            found[-1][1].append(line)
    return found


def codes(lines):
    """Return the exit codes that a section's items are about."""
    heads = [head for head, _ in items(lines) if "+" not in head]  # 128 + n is no code but many
    return [int(number) for head in heads for number in re.findall(r"\b\d+\b", head)]


def plain(lines):
    """Return the words of some lines without their macros, joined."""
    text = " ".join(re.sub(r"^\.[A-Z][a-z]\b ?", "", line) for line in lines)
    return re.sub(r"\s+", " ", text.replace('"', "")).strip()


def flags(line):
    """Return the options that a line of mdoc names."""
    return {"-" + word for word in arguments(line, "Fl") if word != "-"}


def arguments(line, macro):
    """Return the words that a macro has in a line of mdoc."""
    if not line.startswith("."):
        return []
    found, current = [], None
    for word in re.findall(r'"[^"]*"|\S+', line[1:]):
        if word in _MACROS:
            current = word
        elif current == macro and word not in _PUNCTUATION:
            found.append(word.strip('"'))
    return found
