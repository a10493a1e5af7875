"""An evaluation as one HTML file that needs nothing else: figures with intervals, warnings, two plots as inline SVG.

Input: the evaluation as its JSON. Output: HTML text. No script, no font, picture or style from anywhere: it opens on a
machine without network. matplotlib is imported when a page is asked for.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em; color: #1b1b1b; }
table { border-collapse: collapse; margin: 1em 0; } td, th { padding: .25em .9em .25em 0; text-align: left;
border-bottom: 1px solid #ddd; vertical-align: top; } td.n, th.n { text-align: right; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; } td.n, td.i, td.k { white-space: nowrap; }
td.w { white-space: pre-wrap; }
.warning { background: #fff3cd; border-left: 4px solid #b58900; padding: .4em .8em; margin: .5em 0; }
.plots { display: flex; flex-wrap: wrap; gap: 1em; } .plots svg { width: 29em; height: auto; } .dim { color: #666; }
"""
_COLOURS = ("#0072b2", "#d55e00")
#: Points at 0 and 1 are seen whole.
_A_LITTLE_MORE = {"xlim": (-0.03, 1.03), "ylim": (-0.03, 1.03)}


def page(evaluation: Mapping[str, Any]) -> str:
    """Return the page; `evaluation` is `worker.evaluation.Evaluation.to_json`."""
    title = f"Evaluation: {subject_words(evaluation)}"
    counts = counts_words(evaluation)
    warnings = [text for text in (evaluation["notice"], *evaluation["warnings"]) if text]
    curves = evaluation["reliability"]
    figures = [*evaluation["figures"], *(_of_kind(curve, figure) for curve in curves for figure in curve["figures"])]
    parts = [
        f"<h1>{escape(title)}</h1><p>{escape(counts)}</p>",
        *(f'<p class="warning">{escape(text)}</p>' for text in warnings),
        _figures_table(figures),
        "<h2>How far the probabilities can be trusted</h2>",
        _meaning(evaluation),
        '<div class="plots">' + "".join(_plots(curves)) + "</div>",
        *(_bins_table(curve) for curve in curves if curve["bins"]),
        "<h2>What was asked</h2>",
        _mapping_table(
            {
                "manifest": evaluation["manifest"],
                "adapter": f"{evaluation['adapter']} {evaluation['version']}",
                "task": evaluation["task"] or "its only one",
                "prompt": evaluation["prompt"],
            }
        ),
        "<h2>What answered</h2>",
        _mapping_table(_provenance(evaluation)),
    ]
    head = f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    return f"{head}<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"


def subject_words(evaluation: Mapping[str, Any]) -> str:
    """Return what was measured, e.g. "flare, detection"."""
    return f"{evaluation['adapter']}, {evaluation['title']}"


def counts_words(evaluation: Mapping[str, Any]) -> str:
    """Return in one line how many cases there were, and what came of them."""
    parts = [f"{evaluation['entries']} cases", f"{evaluation['answered']} answered"]
    parts.append(f"{evaluation['unparsed']} of these answers could not be read")
    return f"{', '.join(parts)}; {evaluation['failed']} failed"


def interval_words(figure: Mapping[str, Any]) -> str:
    """Return "0.81 to 0.94 (Wilson)", or why there is no interval; nothing where there is no value either."""
    if figure["low"] is None:
        return "" if figure["value"] is None else "none from one case" if figure["n"] == 1 else "none"
    return f"{figure['low']:.3f} to {figure['high']:.3f} ({figure['interval']})"


def value_words(figure: Mapping[str, Any]) -> str:
    """Return the value, or that there is none."""
    return "none" if figure["value"] is None else f"{figure['value']:.3f}"


def _of_kind(curve: Mapping[str, Any], figure: Mapping[str, Any]) -> dict[str, Any]:
    return {**figure, "name": f"{figure['name']}, {curve['kind']}"}


def _figures_table(figures: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(
        f'<tr><td>{escape(f["name"])}</td><td class="n">{value_words(f)}</td><td class="i">{interval_words(f)}</td>'
        f'<td class="n">{f["n"]}</td><td class="dim">{escape(f["remark"])}</td></tr>'
        for f in figures
    )
    head = '<tr><th>figure</th><th class="n">value</th><th>95 % interval</th><th class="n">n</th><th></th></tr>'
    return f"<table>{head}{rows}</table>"


def _bins_table(curve: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><td>{b["low"]:.1f} to {b["high"]:.1f}</td><td class="n">{b["cases"]}</td>'
        f'<td class="n">{b["mean_probability"]:.3f}</td><td class="n">{value_words(b["right"])}</td>'
        f'<td class="i">{interval_words(b["right"])}</td></tr>'
        for b in curve["bins"]
    )
    numbers = "".join(f'<th class="n">{name}</th>' for name in ("cases", "mean", "right"))
    head = f"<tr><th>probability</th>{numbers}<th>95 % interval</th></tr>"
    return f"<h3>Answers by probability, {escape(curve['kind'])}</h3><table>{head}{rows}</table>"


def _meaning(evaluation: Mapping[str, Any]) -> str:
    right = evaluation["right_means"]
    words = f"An answer is right where {right}." if right else "Text is not right or wrong; risk is 1 - its score."
    return f'<p class="dim">{escape(words)} Answers that could not be read have no probability and come last.</p>'


def _provenance(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.replace("_", " "): value
        for name, value in (evaluation["provenance"] or {}).items()
        if name not in ("files", "is_standin") and value != ""
    }


def _mapping_table(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><td class="k">{escape(str(name))}</td><td class="w">{escape(str(value))}</td></tr>'
        for name, value in values.items()
    )
    return f"<table>{rows}</table>"


def _plots(curves: Sequence[Mapping[str, Any]]) -> list[str]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Text stays text, and the same data gives the same file. A Figure of its own needs no display (Agg or any other).
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dicom-worker", "font.family": "sans-serif"}):
        plots = [_risk_coverage]
        if any(curve["bins"] for curve in curves):
            plots.insert(0, _reliability_diagram)
        drawn = []
        for plot in plots:
            figure = Figure(figsize=(5, 4.5), layout="constrained")
            plot(figure.subplots(), curves)
            # Below the plot, where it covers nothing.
            figure.legend(loc="outside lower center", ncols=3, frameon=False)
            drawn.append(_svg(figure))
        return drawn


def _reliability_diagram(axes: Any, curves: Sequence[Mapping[str, Any]]) -> None:
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--", label="as sure as right")
    for curve, colour in zip(curves, _COLOURS, strict=False):
        bins = curve["bins"]
        x, y = [b["mean_probability"] for b in bins], [b["right"]["value"] for b in bins]
        below = [b["right"]["value"] - b["right"]["low"] for b in bins]
        above = [b["right"]["high"] - b["right"]["value"] for b in bins]
        around = [[max(0.0, part) for part in side] for side in (below, above)]
        # No line from bin to bin: between them may be no cases.
        axes.errorbar(
            x, y, yerr=around, color=colour, marker="o", markersize=5, capsize=3, linestyle="none", label=curve["kind"]
        )
    axes.set(xlabel="probability", ylabel="share of right answers", title="Reliability", **_A_LITTLE_MORE)


def _risk_coverage(axes: Any, curves: Sequence[Mapping[str, Any]]) -> None:
    # A temperature leaves the order as it is, so that one curve lies on the other: both are seen.
    for curve, colour, width in zip(curves, _COLOURS, (2.6, 1.0), strict=False):
        axes.plot(curve["coverage"], curve["risk"], color=colour, linewidth=width, label=curve["kind"])
    axes.set(xlabel="share of answers, surest first", ylabel="risk", title="Risk and coverage", **_A_LITTLE_MORE)


def _svg(figure: Any) -> str:
    """Return the plot for use inside HTML: without prologue, metadata and name spaces, which only name addresses."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    whole = buffer.getvalue()
    inner = whole[whole.index("<svg") :]
    without_metadata = re.sub(r"<metadata>.*?</metadata>", "", inner, flags=re.DOTALL)
    return re.sub(r'\sxmlns(?::\w+)?="[^"]*"', "", without_metadata)
