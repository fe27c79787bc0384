"""Show the library's own code on a page: what the reader sees is what the tests test."""

import ast
import inspect
import textwrap
from collections.abc import Callable

__all__ = ["show"]


def show(*objects):
    """The source of functions or classes as Markdown, their docstrings cut to the first line.

    Parameters
    ----------
    objects : functions or classes of the library.

    Returns
    -------
    IPython.display.Markdown
    """
    from IPython.display import Markdown

    return Markdown("\n\n".join(f"```python\n{_shortened(item)}\n```" for item in objects))


def _shortened(item: Callable) -> str:
    source = textwrap.dedent(inspect.getsource(item)).rstrip()
    lines = source.splitlines()
    for node in reversed(list(ast.walk(ast.parse(source)))):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or ast.get_docstring(node) is None:
            continue
        first, last = node.body[0].lineno - 1, node.body[0].end_lineno
        if last is not None and last > first + 1:
            lines[first:last] = [lines[first].rstrip() + '"""']
    return "\n".join(lines)
