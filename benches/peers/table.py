"""The table that people read."""


def render(groups):
    lines = [f"{'':30}{'seconds':>10}{'ratio':>9}{'min':>8}{'max':>8}  check"]
    for group in groups:
        lines += ["", group["title"]]
        lines += [line(result) for result in group["results"]]
    return "\n".join(lines)


def line(result):
    ratio = result["ratio"]
    figures = f"{result['median']:>10.4f}{ratio['median']:>9.2f}{ratio['min']:>8.2f}{ratio['max']:>8.2f}"
    note = result["check"] + (", one run" if len(result["seconds"]) == 1 else "")
    return f"  {result['name']:28}{figures}  {note}"
