"""A live table and the reward curve in a notebook, where IPython is there; plain lines elsewhere."""

from __future__ import annotations

import html
from typing import Any, Dict, List, Optional


def in_notebook() -> bool:
    try:
        from IPython import get_ipython  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


def _number(value: Any) -> str:
    return "" if value is None else "%.4g" % value if isinstance(value, float) else html.escape(str(value))


def curve_svg(points: List[float], title: str, width: int = 480, height: int = 120) -> str:
    """A line over the steps, with its last value beside it."""
    if len(points) < 2:
        return ""
    low, high = min(points), max(points)
    span = (high - low) or 1.0
    places = " ".join("%.1f,%.1f" % (i * (width - 90) / (len(points) - 1) + 5, height - 15 - (value - low) / span * (height - 30))
                      for i, value in enumerate(points))
    return ('<svg viewBox="0 0 %d %d" width="%d" role="img" aria-label="%s"><polyline fill="none" stroke="currentColor" points="%s"/>'
            '<text x="%d" y="12" font-size="11" fill="currentColor">%s</text><text x="%d" y="%d" font-size="11" fill="currentColor">%.4g</text></svg>'
            % (width, height, width, html.escape(title), places, 5, html.escape(title), width - 80, height // 2, points[-1]))


def table_html(rows: List[Dict[str, Any]], columns: List[str], last: int = 20) -> str:
    head = "".join("<th>%s</th>" % html.escape(name) for name in columns)
    body = "".join("<tr>%s</tr>" % "".join("<td>%s</td>" % _number(row.get(name)) for name in columns) for row in rows[-last:])
    return "<table><thead><tr>%s</tr></thead><tbody>%s</tbody></table>" % (head, body)


class Display:
    """Shows log_history as it grows."""

    COLUMNS = ("step", "reward", "loss", "kl", "entropy", "completions/mean_length", "mean_token_accuracy", "grad_norm", "learning_rate")

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.handle: Optional[Any] = None
        self.notebook = not quiet and in_notebook()

    def show(self, history: List[Dict[str, Any]]) -> None:
        if self.quiet or not history:
            return
        columns = [name for name in self.COLUMNS if any(name in row for row in history)]
        if not self.notebook:
            print("  ".join("%s %s" % (name, _number(history[-1].get(name))) for name in columns if name in history[-1]), flush=True)
            return
        from IPython.display import HTML, display  # type: ignore[import-not-found, unused-ignore]

        name = "reward" if any("reward" in row for row in history) else "loss"
        page = HTML(curve_svg([row[name] for row in history if row.get(name) is not None], name) + table_html(history, columns))
        if self.handle is None:
            self.handle = display(page, display_id=True)
        else:
            self.handle.update(page)
