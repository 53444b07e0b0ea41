"""The table that people read."""


def render(groups):
    lines = [f"{'':30}{'seconds':>10}{'ratio':>9}{'min':>8}{'max':>8}  check"]
    for group in groups:
        lines += ["", group["title"]]
        lines += [line(result) for result in group["results"]]
    return "\n".join(lines)


def line(result):
    ratio = result["ratio"]
    figures = [(result["median"], 10, 4), (ratio["median"], 9, 2), (ratio["min"], 8, 2), (ratio["max"], 8, 2)]
    figures = "".join(f"{'never' if value is None else f'{value:.{digits}f}':>{width}}" for value, width, digits in figures)
    note = result["check"] + (", one run" if len(result["seconds"]) == 1 else "")
    return f"  {result['name']:28}{figures}  {note}"
