"""The figures as one SVG picture: panels of grouped bars with the spread as whiskers. Standard library only."""

from html import escape

COLOURS = {"direct": "#9aa5b1", "pgbouncer": "#f0b35a", "odyssey": "#8e6bbf", "pgporter": "#1f77b4"}
OTHERS = ["#d1653d", "#5b9a68"]
PANEL, GAP, HEIGHT, LEFT, TOP = 320, 46, 150, 60, 96
# What is drawn of the transactions, its title, and whether by what PostgreSQL itself has there (latencies grow with the clients).
FIGURES = (("tps", "transactions a second", False), ("cpu_us", "pooler's CPU, µs", False),
           ("p50_ms", "latency p50 / PostgreSQL's", True), ("p99_ms", "latency p99 / PostgreSQL's", True))


def colours_of(names):
    others = iter(OTHERS * 5)
    return {name: COLOURS.get(name) or next(others) for name in names}


def steps(most):
    """Three to five round marks from 0 to beyond `most`."""
    unit = 10.0 ** len(str(int(most))) / 10 if most >= 1 else 0.1
    while unit * 5 < most:
        unit *= 2
    while most > 0 and most / unit < 2.5:
        unit /= 2
    marks = [unit * number for number in range(7)]
    return [mark for mark in marks if mark < most + unit]


def short(value):
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def text(x, y, words, size=11, anchor="start", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" {more}>{escape(str(words))}</text>'


def panel(x, y, title, groups, colours):
    """`groups`: [(label, {target: spread})]."""
    shown = [figures["max"] for _, bars in groups for figures in bars.values() if figures]
    out = [text(x, y - 8, title, 12, more='font-weight="bold"')]
    if not shown:
        return out + [text(x + 10, y + 30, "not measured", 11)]
    marks = steps(max(shown))
    scale = HEIGHT / marks[-1]
    for mark in marks:
        at = y + HEIGHT - mark * scale
        out.append(f'<line x1="{x}" y1="{at:.1f}" x2="{x + PANEL}" y2="{at:.1f}" stroke="#e3e6ea"/>')
        out.append(text(x - 5, at + 4, short(mark), 10, "end"))
    width = PANEL / len(groups)
    for number, (label, bars) in enumerate(groups):
        each = min(26.0, width * 0.84 / max(1, len(colours)))
        left = x + number * width + (width - each * len(colours)) / 2
        for place, (name, colour) in enumerate(colours.items()):
            figures = bars.get(name)
            if not figures:
                continue
            at, high = left + place * each, figures["median"] * scale
            out.append(f'<rect x="{at:.1f}" y="{y + HEIGHT - high:.1f}" width="{each - 1.5:.1f}" height="{high:.1f}" fill="{colour}">'
                       f'<title>{escape(name)}: {figures["median"]:.4g} ({figures["min"]:.4g} to {figures["max"]:.4g})</title></rect>')
            middle = at + (each - 1.5) / 2
            out.append(f'<line x1="{middle:.1f}" y1="{y + HEIGHT - figures["min"] * scale:.1f}" x2="{middle:.1f}" '
                       f'y2="{y + HEIGHT - figures["max"] * scale:.1f}" stroke="#333"/>')
        for line, words in enumerate(label.split("\n")):
            out.append(text(x + (number + 0.5) * width, y + HEIGHT + 14 + 11 * line, words, 10, "middle"))
    return out


def ordered(values):
    return list(dict.fromkeys(values))


def bars_of(rows, key, **labels):
    return {row["target"]: row["figures"].get(key) for row in rows
            if "figures" in row and all(row.get(name) == value for name, value in labels.items())}


def by_direct(bars):
    direct = bars.get("direct")
    if not direct:
        return {}
    return {name: {key: value / direct["median"] for key, value in figures.items()} for name, figures in bars.items() if figures}


def panel_rows(rows):
    """Rows of (title, groups)."""
    transactions = [row for row in rows if row["part"] == "transactions"]
    kinds = ordered((row["mode"], row["tls"]) for row in transactions)
    out = []
    for key, title, is_relative in FIGURES:
        line = []
        for mode, tls in kinds:
            of_mode = [row for row in transactions if (row["mode"], row["tls"]) == (mode, tls)]
            clients = sorted({row["clients"] for row in of_mode})
            groups = [(f"{count} client{'s' if count > 1 else ''}", bars_of(of_mode, key, clients=count)) for count in clients]
            line.append((f"{mode}{' over TLS' if tls else ''}: {title}", [(label, by_direct(bars)) for label, bars in groups] if is_relative else groups))
        out.append(line)
    others = []
    for part, key, title in (("counts", "syscalls", "system calls a transaction"), ("counts", "allocations", "heap allocations a transaction"),
                             ("bulk", "cpu_s_per_gb", "pooler's CPU, s for a GB"), ("logins", "cpu_ms", "pooler's CPU, ms a login")):
        of_part = [row for row in rows if row["part"] == part]
        if of_part:
            keys = ordered((row["mode"], row["tls"], row["clients"]) for row in of_part)
            several = len({clients for _, _, clients in keys}) > 1
            others.append((title, [
                (mode + ("\nTLS" if tls else "") + (f"\n{clients} clients" if several and clients != 16 else ""),
                 bars_of(of_part, key, mode=mode, tls=tls, clients=clients)) for mode, tls, clients in keys]))
    return [line for line in [*out, others] if line]


def write_svg(path, rows, subtitle):
    lines = panel_rows(rows)
    names = ordered(row["target"] for row in rows)
    colours = colours_of(names)
    columns = max(map(len, lines)) if lines else 1
    width = max(900, LEFT + columns * (PANEL + GAP) + 10)
    height = TOP + len(lines) * (HEIGHT + 66)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
           'font-family="DejaVu Sans, Arial, sans-serif" fill="#22272e">', f'<rect width="{width}" height="{height}" fill="white"/>',
           text(LEFT, 26, "pgporter beside other poolers", 17, more='font-weight="bold"'), text(LEFT, 44, subtitle, 11)]
    at = LEFT
    for name in names:
        out.append(f'<rect x="{at}" y="54" width="12" height="12" fill="{colours[name]}"/>')
        out.append(text(at + 17, 64, name, 12))
        at += 40 + 8 * len(name)
    for row, line in enumerate(lines):
        for column, (title, groups) in enumerate(line):
            out += panel(LEFT + column * (PANEL + GAP), TOP + 8 + row * (HEIGHT + 66), title, groups, colours)
    out.append("</svg>\n")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(out))
