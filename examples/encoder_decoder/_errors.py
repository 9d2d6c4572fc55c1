"""How far sequences are from what they should be."""


def edit_distance(found, wanted):
    """The fewest insertions, deletions and substitutions that make one of the other (Levenshtein 1966)."""
    row = list(range(len(wanted) + 1))
    for i, a in enumerate(found, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(wanted, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def error_rates(found, wanted):
    """In percent: edits per element of what is wanted, and the share of sequences with at least one edit."""
    edits = [edit_distance(a, b) for a, b in zip(found, wanted, strict=True)]
    return 100 * sum(edits) / sum(map(len, wanted)), 100 * sum(map(bool, edits)) / len(edits)
