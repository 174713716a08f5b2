"""Small changes of a source that a test should notice.

Of what others do, mutmut leaves out decorated functions and everything
outside functions, and cosmic-ray starts a process a change, which takes torch
seven seconds. Texts, annotations, ``__repr__`` and what is logged or said by
an error are left alone; whether the error is raised is not.
"""

import ast
import copy
from collections import Counter
from itertools import accumulate
from typing import (
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Tuple,
    Type,
)

_COMPARISONS = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
_PAIRS = (
    ('all', 'any'),
    ('amax', 'amin'),
    ('argmax', 'argmin'),
    ('ceil', 'floor'),
    ('clamp_max', 'clamp_min'),
    ('cos', 'sin'),
    ('max', 'min'),
    ('maximum', 'minimum'),
    ('mean', 'sum'),
    ('ones', 'zeros'),
    ('ones_like', 'zeros_like'),
)
_NAMES = dict(_PAIRS) | {second: first for first, second in _PAIRS}
_SAID = ('debug', 'info', 'print_log', 'warn', 'warning')
_UNSEEN = ('__repr__', 'extra_repr', '__str__')


class Mutant(NamedTuple):
    """One change."""

    file: str  # whose
    lines: Tuple[int, int]  # first and last of what changes, from 1
    scope: Tuple[int, int]  # those of the function around it, or of all
    before: str  # these lines, with single spaces
    after: str  # the same, changed
    span: Tuple[int, int]  # bytes of the source that change
    new: str  # what takes their place


def mutants(file: str, source: str) -> List[Mutant]:
    """All changes of a source, in its order.

    Args:
        file (str): Its name.
        source (str): Python.
    """
    data = source.encode()
    lines = data.splitlines(keepends=True)
    starts = [0, *accumulate(map(len, lines))]
    by_span = {}
    for node, new, scope in _changes(ast.parse(source), (1, len(lines))):
        span = (
            starts[node.lineno - 1] + node.col_offset,
            starts[node.end_lineno - 1] + node.end_col_offset,
        )
        start, end = starts[node.lineno - 1], starts[node.end_lineno]
        new = new if _stands_alone(node, new) else f'({new})'
        after = data[start : span[0]] + new.encode() + data[span[1] : end]
        mutant = Mutant(
            file,
            (node.lineno, node.end_lineno),
            scope,
            ' '.join(data[start:end].decode().split()),
            ' '.join(after.decode().split()),
            span,
            new,
        )
        by_span.setdefault((span, new), mutant)
    return sorted(by_span.values(), key=lambda m: m.span)


def _stands_alone(node: ast.AST, new: str) -> bool:
    return isinstance(node, ast.stmt) or new.isidentifier() or new.isdigit()


def table(outcomes: Iterable[Tuple[str, str]]) -> str:
    """What became of mutants, a row a file, in Markdown.

    Args:
        outcomes (Iterable[Tuple[str, str]]): File, and ``'killed'``,
            ``'survived'`` or ``'equivalent'``. The share is that of the killed
            among the first two.
    """
    counts: Dict[str, Counter] = {}
    for file, outcome in outcomes:
        for name in (file, 'all'):
            counts.setdefault(name, Counter()).update(['mutants', outcome])
    counts['all'] = counts.pop('all', Counter())  # last
    columns = ('mutants', 'killed', 'survived', 'equivalent')
    rows = [f'| file | {" | ".join(columns)} | share |', '|---' * 6 + '|']
    for name, row in counts.items():
        share = row['killed'] / max(row['killed'] + row['survived'], 1)
        cells = ' | '.join(str(row[column]) for column in columns)
        rows.append(f'| {name} | {cells} | {share:.1%} |')
    return '\n'.join(rows)


_Scope = Tuple[int, int]
_Change = Tuple[ast.AST, str, _Scope]


def _changes(node: ast.AST, scope: _Scope) -> Iterator[_Change]:
    if isinstance(node, (ast.FunctionDef, ast.Lambda)):
        if getattr(node, 'name', '') in _UNSEEN:
            return
        if isinstance(node, ast.FunctionDef):
            scope = (node.lineno, node.end_lineno)
    for new in _replacements(node):
        yield node, new, scope
    for condition in _conditions(node):
        yield condition, 'False', scope
        if not isinstance(node, ast.While):  # it would never end
            yield condition, 'True', scope
    for child in _children(node):
        yield from _changes(child, scope)


def _conditions(node: ast.AST) -> List[ast.expr]:
    if isinstance(node, ast.comprehension):
        return node.ifs
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        condition = ast.unparse(node.test)
        return [] if condition in ('True', 'TYPE_CHECKING') else [node.test]
    return []


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """What may change inside."""
    if isinstance(node, (ast.Raise, ast.JoinedStr, ast.Import, ast.Global)):
        return
    if isinstance(node, ast.Call) and _called(node) in _SAID:
        return
    if isinstance(node, ast.Assign) and _is_dunder(node.targets[0]):
        return
    for field, value in ast.iter_fields(node):
        if field in ('annotation', 'returns', 'decorator_list', 'bases'):
            continue
        if isinstance(node, ast.Subscript) and _is_type(node.value):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child


def _is_dunder(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id.startswith('__')


def _is_type(node: ast.AST) -> bool:
    names = ('Callable', 'Dict', 'List', 'Literal', 'Optional', 'Tuple')
    return isinstance(node, ast.Name) and node.id in (*names, 'Union')


def _called(node: ast.Call) -> str:
    return getattr(node.func, 'attr', getattr(node.func, 'id', ''))


def _replacements(node: ast.AST) -> List[str]:
    if isinstance(node, ast.stmt):
        return _of_statement(node)
    if isinstance(node, ast.Constant):
        return _of_constant(node.value)
    if isinstance(node, ast.Compare):
        return [
            _with(node, 'ops', [*node.ops[:k], new(), *node.ops[k + 1 :]])
            for k, op in enumerate(node.ops)
            for new in _COMPARISONS[type(op)]
        ]
    if isinstance(node, (ast.BinOp, ast.BoolOp)):
        return _of_operator(node)
    if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.UAdd):
        return [ast.unparse(node.operand)]
    if isinstance(node, ast.Call):
        new = _NAMES.get(_called(node))
        return [_with(node, 'func', _renamed(node.func, new))] if new else []
    return []


def _of_statement(node: ast.stmt) -> List[str]:
    if isinstance(node, ast.Return):
        nothing = node.value is None or ast.unparse(node.value) == 'None'
        return [] if nothing else ['return None']
    if isinstance(node, ast.AugAssign):
        return ['pass', *_of_operator(node)]
    if isinstance(node, (ast.Raise, ast.Delete, ast.Assert)):
        return ['pass']
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        is_logging = _called(node.value) in ('debug', 'info')
        return [] if is_logging else ['pass']
    if isinstance(node, ast.Assign):
        kinds = (ast.Attribute, ast.Subscript)
        stored = all(isinstance(target, kinds) for target in node.targets)
        return ['pass'] if stored else []
    return []


def _of_constant(value: object) -> List[str]:
    if isinstance(value, bool):
        return [str(not value)]
    if isinstance(value, (int, float)):
        # Of large floats, 1 more is the same.
        replacements = (value + 1, value - 1)
        return [repr(new) for new in replacements if new != value]
    return []


def _of_operator(node: ast.AST) -> List[str]:
    parts = list(ast.iter_child_nodes(node))
    kinds = (ast.JoinedStr, ast.Constant)
    text = any(
        isinstance(part, kinds) and isinstance(getattr(part, 'value', ''), str)
        for part in parts
    )
    new: Optional[Type] = _OPERATORS.get(type(node.op))
    if text or new is None:
        return []
    return [_with(node, 'op', new())]


def _renamed(function: ast.expr, name: str) -> ast.expr:
    function = copy.copy(function)
    field = 'attr' if isinstance(function, ast.Attribute) else 'id'
    setattr(function, field, name)
    return function


def _with(node: ast.AST, field: str, value: object) -> str:
    changed = copy.copy(node)
    setattr(changed, field, value)
    return ' '.join(ast.unparse(changed).split())
