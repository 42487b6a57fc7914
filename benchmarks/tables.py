"""The figures of fps.py as markdown, and what changed between two runs."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]

_TITLES = {
    "models": "Models alone",
    "files": "File to file: decode, follow the camera, infer, encode",
    "live": "Live, the clip at its own pace, no window: from the moment at which a frame is due to its hand-over",
    "start": "Whole commands",
    "rivals": "What you might use instead, on the same images",
}

_KEYS = {
    "models": ("size", "engine", "network", "precision"),
    "files": ("size", "style", "network", "precision", "preset"),
    "live": ("size", "style", "network", "precision"),
    "start": ("command",),
    "rivals": ("size", "rival"),
}
"""What tells the rows of a section apart."""


def markdown(result: Row) -> str:
    """Return all figures as text: a heading of the machine, and a table for each section that was run."""
    about = result["machine"]
    cap = f", capped to {about['isa_cap']}" if about["isa_cap"] else ""
    load = ", ".join(f"{name} {cores:.2f}" for name, cores in result["load_of_others"].items())
    roof = ", ".join(f"{precision} {gflops:g} GFLOP/s" for precision, gflops in result["matmul_gflops"].items())
    installed = (
        f" Installed with its dependencies: {result['installed_mb']['all']} MB." if result["installed_mb"] else ""
    )
    lines = [
        f"rtstyle {result['rtstyle']}, {result['when']}: `{result['command']}`",
        "",
        f"{about['processor']}, {about['cores']} cores, {', '.join(about['instruction_sets'])}{cap}; {about['system']}",
        "",
        f"Matrix products reach {roof} on all cores; one thread copies {result['copy_gb_per_s']:g} GB/s. "
        f"Cores that others used: {load}.{installed}",
    ]
    for section, title in _TITLES.items():
        if section in result:
            lines += ["", f"## {title}", "", *_table(result[section])]
    if "rivals" in result and (ratio := _ratios(result)):
        lines += ["", *ratio]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number:g}" for name, number in value.items())
    if isinstance(value, list):
        return "..".join(f"{number:g}" for number in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(rows: list[Row]) -> list[str]:
    heads = [name for name in {key: None for row in rows for key in row} if name != "not_run"]
    lines = ["| " + " | ".join(head.replace("_", " ") for head in heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        cells = [_cell(row.get(head, "")) for head in heads]
        if "not_run" in row:
            cells[-1] = f"not run: {row['not_run']}"
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _ratios(result: Row) -> list[str]:
    """Our figures over each rival's, at the same size: model against model, file against file."""
    lines = []

    def ours(section: str, size: str) -> list[Row]:
        rows = [row for row in result.get(section, []) if row["size"] == size and "fps" in row]
        return [row for row in rows if row.get("network", "default") == "default"]

    for rival in (row for row in result["rivals"] if "fps" in row):
        here, files = ours("models", rival["size"]), ours("files", rival["size"])
        parts = []
        if here:
            best = max(here, key=lambda row: float(row["fps"]))
            parts.append(f"model {best['fps'] / rival['fps']:.1f}x ({best['engine']} {best['precision']})")
        if files:
            best = max(files, key=lambda row: float(row["fps"]))
            parts.append(f"file to file {best['fps'] / rival['file_to_file_fps']:.1f}x")
        if parts:
            lines.append(f"- Frames per second, rtstyle over {rival['rival']}: {', '.join(parts)}.")
    return lines


def _named(row: Row, keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a row is of; older ones were all of the default network."""
    return tuple(str(row.get(key, "default")) for key in keys)


def compare(old: Row, new: Row) -> str:
    """Return a table of what both runs measured: old, new, and new over old."""
    lines = ["", "## Compared to " + str(old["when"]), "", "| what | old | new | new / old |", "|---|---|---|---|"]
    for section, keys in _KEYS.items():
        before = {_named(row, keys): row for row in old.get(section, [])}
        for row in new.get(section, []):
            earlier = before.get(_named(row, keys))
            for figure in ("fps", "cpu_ms", "seconds", "peak_mib"):
                if earlier and earlier.get(figure) and figure in row:
                    what = " ".join(_named(row, keys))
                    share = row[figure] / earlier[figure]
                    lines.append(
                        f"| {section}: {what}, {figure} | {earlier[figure]:g} | {row[figure]:g} | {share:.2f} |"
                    )
    return "\n".join(lines)
