"""Shown source is the real source, less the long docstrings."""

import ast

from compress_lib import source, training
from compress_lib.network import masks


def test_shown_function_is_the_real_one_without_its_docstring():
    shown = source.show(training.accuracy).data.removeprefix("```python\n").removesuffix("\n```")
    import inspect

    def body(text):
        (function,) = ast.parse(text).body
        return ast.dump(ast.Module(function.body[1:], [])), ast.dump(function.args)

    assert body(shown) == body(inspect.getsource(training.accuracy))


def test_docstrings_keep_their_first_line_in_classes_too():
    shown = source.show(masks.Mask).data
    assert '"""Keep the weights where ``mask`` is true and replace the others by zero."""' in shown
    assert "infinite or" not in shown and "torch.where(self.mask, weight, 0)" in shown


def test_several_objects_make_several_blocks():
    assert source.show(training.accuracy, masks.Mask).data.count("```python") == 2
