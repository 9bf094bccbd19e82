"""Workshop files rendered for one seat, as Ansible's template module renders them.

The rules that existing workshops rely on: which files are templates (`is_template`), trim_blocks, the last
newlines kept, an undefined variable is an error, a variable's value may hold Jinja itself. Two things are
better than there: what an expression puts into a notebook is escaped, so that no value can break its JSON;
and templates run in a sandbox, because workshops come from repositories that others write.

Time and memory are bounded. A file whose expressions only look values up, small ones that are looked up
themselves, costs little more than it is long, and is rendered here; one that loops, calls or computes, in the
file or in the value of a variable, is rendered by a process of its own with limits (`confined`). Parsing is
bounded by the length of a file and its number of tokens, and compiling computes nothing; all files of a
workshop together have some seconds for both.
"""

import functools
import hashlib
import itertools
import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import (
    DictLoader,
    StrictUndefined,
    TemplateNotFound,
    TemplateSyntaxError,
    Undefined,
    UndefinedError,
    nodes,
    pass_context,
)
from jinja2.compiler import CodeGenerator, Frame
from jinja2.environment import Template
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import missing
from markupsafe import Markup

from notebooks_loader import confined
from wodctl.errors import ContentProblem

LARGEST_TEMPLATE = 32 * 1024**2
"""Bytes that a file to be rendered may have."""

LARGEST_RESULT = 32 * 1024**2
"""Characters that one file may have once it is rendered."""

LARGEST_RESULTS = 64 * 1024**2
"""Characters that all files of a workshop together may have once they are rendered."""

MOST_TOKENS = 50_000
"""Words and signs that the expressions of one file may have, its text between them counting as one."""

SECONDS = 10.0
"""Of processor time, for all files of a workshop that are rendered in this process."""

_LARGEST_VALUE = 256 * 1024
_LARGEST_PLAIN_VALUE = 64 * 1024
_DEEPEST_VALUES = 20
_PIECES = 64
"""Pieces of a result that are counted together."""
_COMPILED_BYTES = 64 * 1024**2
_EXPRESSION_BYTES = 1024
"""What a compiled expression takes in memory, and some more; see _cost."""

_SUFFIXES = (".ipynb", ".yaml", ".py", ".sh", ".src", ".tf", ".env")
_JINJA = ("{{", "{%", "{#")


def is_template(name: str) -> bool:
    """Whether a file of that name is rendered, wherever it lies; the others are copied as they are.

    Not rendered, deliberately: `.yml`, `.j2`, hidden files, checkpoints of notebooks.
    """
    if name.startswith(".") or name.endswith("-checkpoint.ipynb"):
        return False
    return name.endswith(_SUFFIXES) or name == "Variables.ps1"


@dataclass(frozen=True)
class Source:
    """A file to be rendered; `path` is how messages name it."""

    path: str
    content: bytes

    @property
    def is_notebook(self) -> bool:
        return self.path.endswith(".ipynb")


def render(sources: Sequence[Source], variables: Mapping[str, Any]) -> list[bytes]:
    """The contents of all `sources` for one seat, in their order; what is not UTF-8 comes back as it is.

    Raises `ContentProblem` for the first file that cannot be rendered, naming it, its line, the notebook's
    cell where that can be told, and the variable that is missing.
    """
    results: dict[int, bytes] = {}
    laborious: dict[int, Source] = {}
    room = _Room(LARGEST_RESULTS)
    values = Values(variables, only_plain=True)
    end = time.thread_time() + SECONDS
    for number, source in enumerate(sources):
        if time.thread_time() > end:
            raise ContentProblem(
                f"Rendering all files up to {source.path} takes more than {SECONDS:.0f} s: expected fewer of them, "
                "or fewer expressions."
            )
        compiled = _compiled(source)
        try:
            if compiled is None:
                results[number] = source.content
            elif compiled.plain:
                results[number] = _run(source, compiled.template, values, room)
            else:
                laborious[number] = source
        except _Laborious:
            laborious[number] = source
    if laborious:
        results |= zip(laborious, confined.render(list(laborious.values()), variables), strict=True)
    return [results[number] for number in range(len(sources))]


def render_here(sources: Iterable[Source], variables: Mapping[str, Any]) -> list[bytes]:
    """As `render`, in this process, whatever it takes: only for a process that has limits."""
    room = _Room(LARGEST_RESULTS)
    values = Values(variables)
    results = []
    for source in sources:
        compiled = _compiled(source)
        results.append(source.content if compiled is None else _run(source, compiled.template, values, room))
    return results


# --- Values ----


class UndefinedVariable(UndefinedError):
    """A template needs `name`, which nobody defined."""

    def __init__(self, name: str, message: str | None = None) -> None:
        super().__init__(message)
        self.name = name


class _Missing(StrictUndefined):
    """An undefined value that remembers its name in the error which its use raises."""

    __slots__ = ()

    def __init__(
        self,
        hint: str | None = None,
        obj: Any = missing,
        name: str | None = None,
        exc: type[Exception] = UndefinedError,
    ) -> None:
        wanted = exc if exc is SecurityError else functools.partial(UndefinedVariable, str(name))
        super().__init__(hint, obj, name, wanted)  # type: ignore[arg-type]  # it is called to make the error


class BadValue(Exception):
    """The value of a variable cannot be worked out; the text says which and why."""


class _Laborious(BaseException):
    """Something has to be worked out that this process must not. Nobody on the way up may take it for a mistake."""


class Values(Mapping[str, Any]):
    """The variables as templates see them: each worked out when first asked for, Jinja in its value included.

    `hostvars[inventory_hostname]` is these same variables: the idiom for names that Jinja cannot spell, such
    as `IP-WKSHP-Docker101`. `only_plain`: a value that computes, or is large, raises `_Laborious`.
    """

    def __init__(self, variables: Mapping[str, Any], *, only_plain: bool = False) -> None:
        self._only_plain = only_plain
        host = str(variables.get("inventory_hostname") or variables.get("WODBEFQDN") or "localhost")
        self._given = {**_GLOBALS, **variables, "inventory_hostname": host, "hostvars": {host: self}}
        self._known: dict[str, Any] = {}
        self._asked: list[str] = []

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            value = self._work_out(name, self._given[name])
            if self._only_plain and name != "hostvars" and _size(value) > _LARGEST_PLAIN_VALUE:
                raise _Laborious
            self._known[name] = value
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._given

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)

    def _work_out(self, name: str, value: Any) -> Any:
        if name == "hostvars" or not _has_jinja(value):
            return value
        if name in self._asked or len(self._asked) >= _DEEPEST_VALUES:
            raise BadValue(
                f"the variables {' -> '.join([*self._asked, name])} refer to each other without an end"
            )
        self._asked.append(name)
        try:
            return self._expand(value)
        except UndefinedVariable as error:
            return _Missing(name=error.name)
        except BadValue:
            raise
        except Exception as error:
            raise BadValue(
                f"the value of the variable {name} cannot be worked out: {_reason(error)}"
            ) from error
        finally:
            self._asked.pop()

    def _expand(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._expand_text(value) if _has_jinja(value) else value
        if isinstance(value, Mapping):
            return {self._expand(key): self._expand(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._expand(item) for item in value]
        return value

    def _expand_text(self, text: str) -> Any:
        template, single, plain = _value_template(text)
        if self._only_plain and not plain:
            raise _Laborious
        context = template.new_context(self, shared=True)  # type: ignore[arg-type]  # any Mapping does
        pieces = []
        size = 0
        for piece in template.root_render_func(context):
            size += len(piece)
            if size > _LARGEST_VALUE:
                raise ValueError(f"it has more than {_LARGEST_VALUE // 1024} KiB")
            pieces.append(piece)
        result = context.vars["result"] if single else "".join(pieces)
        if isinstance(result, Undefined):
            str(result)  # raises the error that names the variable
        return _with_last_newlines(result, text) if isinstance(result, str) else result


def _with_last_newlines(result: str, template: str) -> str:
    """The result with at least as many newlines at its end as the template has there: Ansible's rule."""
    missing = _last_newlines(template) - _last_newlines(result)
    return result + "\n" * missing if missing > 0 else result


def _last_newlines(text: str) -> int:
    return len(text) - len(text.rstrip("\n"))


def _has_jinja(value: Any) -> bool:
    if isinstance(value, str):
        return any(sign in value for sign in _JINJA)
    if isinstance(value, Mapping):
        return any(_has_jinja(key) or _has_jinja(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return any(map(_has_jinja, value))
    return False


def _size(value: Any) -> int:
    """The characters of a value with all that is in it, or some number above the limit for a plain one."""
    size, left = 0, [value]
    while left and size <= _LARGEST_PLAIN_VALUE:
        one = left.pop()
        size += len(one) if isinstance(one, str) else 8
        if isinstance(one, Mapping):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple):
            left += one
        elif isinstance(one, int):
            size += one.bit_length() // 3
    return size


@functools.lru_cache(maxsize=1024)
def _value_template(text: str) -> tuple[Template, bool, bool]:
    """The template of a variable's value; whether it is one expression, whose result keeps its type; and whether
    it only looks values up."""
    tree = _TEXT.parse(text)
    plain = _only_looks_up(tree)
    if not _is_one_expression(tree):
        return _TEXT.from_string(tree), False, plain
    output = tree.body[0]
    assert isinstance(output, nodes.Output)
    assignment = nodes.Assign(nodes.Name("result", "store"), output.nodes[0], lineno=1)
    return _TEXT.from_string(nodes.Template([assignment], lineno=1)), True, plain


def _is_one_expression(tree: nodes.Template) -> bool:
    match tree.body:
        case [nodes.Output(nodes=[only])]:
            return not isinstance(only, nodes.TemplateData)
    return False


# --- Templates ----


class _TokenLimit(Extension):
    """Refuses a file whose expressions would take too long to parse."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:  # type: ignore[override]
        for number, token in enumerate(stream):
            if number >= MOST_TOKENS:
                raise TemplateSyntaxError(
                    f"the expressions have more than {MOST_TOKENS} tokens", token.lineno
                )
            yield token


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja with Ansible's rules, in a sandbox."""

    def __init__(self, finalize: Callable[..., Any], *, autoescape: bool) -> None:
        super().__init__(
            trim_blocks=True,
            keep_trailing_newline=False,  # see _with_last_newlines
            undefined=_Missing,
            loader=DictLoader({}),
            extensions=[_TokenLimit],
            # Nothing is computed while compiling, which is not bounded: see also the filters of constants
            # below.
            optimized=False,
            finalize=finalize,
            autoescape=autoescape,
        )

    def getitem(self, obj: Any, argument: Any) -> Any:
        """As Jinja's, and a map keyed by seats may have numbers or texts as its keys: STDID finds either."""
        found = super().getitem(obj, argument)
        if isinstance(found, Undefined) and isinstance(obj, dict):
            if isinstance(argument, str) and argument.isdecimal():
                return obj.get(int(argument), found)
            if isinstance(argument, int):
                return obj.get(str(argument), found)
        return found


# Both functions take the context so that Jinja does not call them while it compiles.
@pass_context
def _as_text(_context: Context, value: Any) -> Any:
    return "" if value is None else value


@pass_context
def _as_json_text(_context: Context, value: Any) -> str:
    """What an expression puts into a notebook, as it must be written within a JSON string.

    Markup is text of the notebook itself (out of a macro or a block), or a value that the author vouches for
    with the filter `safe`.
    """
    if isinstance(value, Markup):
        return str(value)
    text = "" if value is None else str(value)
    return _escaped_once(text) if len(text) <= _SHORT else _escaped(text)


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


# The same few names come in every cell, and for every seat.
_escaped_once = functools.lru_cache(maxsize=4096)(_escaped)
_SHORT = 200


class _NotebookCode(CodeGenerator):
    """Compiles templates that write what `_as_json_text` returns as it is.

    Jinja would escape it for HTML, and since that means to make Markup of it only to find that it needs nothing,
    it would take most of the time of a notebook with many expressions.
    """

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        self.write(f"({finalize.src}")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        self.write("))")


def _without_markup(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> str:
        return str(function(*arguments, **named))

    return call


# In a notebook Jinja's Markup stands for "is JSON already": text that comes out of a macro or a block must
# not be escaped again. The filters that make Markup because they escaped for HTML must not be taken for that.
_TEXT = _Environment(_as_text, autoescape=False)
_NOTEBOOK = _Environment(_as_json_text, autoescape=True)
_NOTEBOOK.code_generator_class = _NotebookCode
for _name in ("e", "escape", "forceescape", "tojson", "urlize", "xmlattr"):
    _NOTEBOOK.filters[_name] = _without_markup(_NOTEBOOK.filters[_name])
_GLOBALS = {name: _TEXT.globals[name] for name in ("cycler", "dict", "joiner", "namespace", "range")}

_LOOK_UPS = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.If,
    nodes.CondExpr,
    nodes.Name,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Const,
    nodes.List,
    nodes.Tuple,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Concat,
    nodes.Add,
    nodes.Sub,
)
_CHEAP_FILTERS = {"d", "default", "int", "length", "lower", "safe", "string", "title", "trim", "upper"}
_CHEAP_TESTS = {
    "defined",
    "undefined",
    "none",
    "string",
    "number",
    "mapping",
    "true",
    "false",
    "equalto",
    "eq",
    "in",
}
_MOST_PLAIN_NODES = 20_000
_MOST_MADE = 200
"""Values that a plain file may make new texts and lists of; the rest is written as it is found."""
_MAKES = (nodes.Filter, nodes.List, nodes.Tuple, nodes.Concat, nodes.Add, nodes.Sub, nodes.Compare)


@dataclass(frozen=True)
class _Compiled:
    template: Template
    plain: bool
    """It looks values up and does nothing else, so that rendering it takes no longer than it is long."""


class _Cache:
    """Compiled templates by what their files hold, those used last, up to so many bytes of files."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._entries: OrderedDict[bytes, tuple[int, _Compiled]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> _Compiled | None:
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][1]

    def put(self, key: bytes, size: int, compiled: _Compiled) -> None:
        with self._lock:
            if key in self._entries:
                return
            self._entries[key] = (size, compiled)
            self._bytes += size
            while self._bytes > self._most_bytes:
                self._bytes -= self._entries.popitem(last=False)[1][0]


_cache = _Cache(_COMPILED_BYTES)


def _compiled(source: Source) -> _Compiled | None:
    """The template of a file, from the cache if it can be; None for what is not UTF-8, so no template."""
    if len(source.content) > LARGEST_TEMPLATE:
        raise ContentProblem(
            f"{source.path} has more than {LARGEST_TEMPLATE // 1024**2} MiB, too much to be rendered.",
            hint="Clear the outputs of the notebook, or give a file of data another suffix.",
        )
    key = hashlib.sha256(source.content).digest() + bytes([source.is_notebook])
    compiled = _cache.get(key)
    if compiled is None:
        try:
            text = source.content.decode("utf-8")
        except UnicodeDecodeError:
            return None
        compiled = _compile(source, text)
        _cache.put(key, _cost(source.content), compiled)
    return compiled


def _cost(content: bytes) -> int:
    """The memory that a compiled template takes, roughly."""
    return 2 * len(content) + _EXPRESSION_BYTES * (content.count(b"{{") + content.count(b"{%"))


def _compile(source: Source, text: str) -> _Compiled:
    environment = _NOTEBOOK if source.is_notebook else _TEXT
    try:
        tree = environment.parse(text)
        return _Compiled(environment.from_string(tree), plain=_only_looks_up(tree))
    except TemplateSyntaxError as error:
        raise _problem(source, error.lineno, _reason(error), hint=_BRACES) from error
    except (RecursionError, MemoryError, SyntaxError) as error:
        raise _problem(source, None, "an expression is nested too deeply") from error


def _only_looks_up(tree: nodes.Template) -> bool:
    made = 0
    for number, node in enumerate(tree.find_all(nodes.Node)):
        if isinstance(node, _MAKES) and not _is_of_constants(node):
            made += sum(1 for _ in node.iter_child_nodes())
        if number > _MOST_PLAIN_NODES or made > _MOST_MADE or not _is_cheap(node):
            return False
    return True


def _is_of_constants(node: nodes.Node) -> bool:
    """Whether it is a comparison with a constant, as in `MODEWS == 'CHLG'`, which makes nothing."""
    return isinstance(node, nodes.Compare) and all(
        one.op in ("eq", "ne") and isinstance(one.expr, nodes.Const) for one in node.ops
    )


def _is_cheap(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Filter):
        return node.name in _CHEAP_FILTERS
    if isinstance(node, nodes.Test):
        return node.name in _CHEAP_TESTS
    return isinstance(node, _LOOK_UPS)


class _Room:
    """The characters that may still be written."""

    def __init__(self, characters: int) -> None:
        self.left = characters


def _run(source: Source, template: Template, values: Values, room: _Room) -> bytes:
    most = min(LARGEST_RESULT, room.left)
    size = 0
    pieces: list[str] = []
    context = template.new_context(values, shared=True)  # type: ignore[arg-type]  # any Mapping does
    try:
        written = template.root_render_func(context)
        while some := list(itertools.islice(written, _PIECES)):
            size += sum(map(len, some))
            if size > most:
                raise BadValue(f"the result has more than {most // 1024**2} MiB")
            pieces += some
        room.left -= size
        end = source.content[len(source.content.rstrip(b"\n")) :].decode()
        return _with_last_newlines("".join(pieces), end).encode("utf-8")
    except Exception as error:
        # Whatever an expression raised, its author must learn where.
        hint = _DEFINE if isinstance(error, UndefinedVariable) else ""
        raise _problem(source, _line(template, error), _reason(error), hint=hint) from error


# --- Messages ----

_DEFINE = (
    "Define it in the site's settings or the workshop's variables, or write {{ '{{' }} if braces were meant."
)
_BRACES = "What is not meant for us goes between {% raw %} and {% endraw %}: Bash's ${#word} opens a comment."
_CELL = re.compile(rb'^\s*"cell_type"\s*:', re.MULTILINE)


def _problem(source: Source, line: int | None, reason: str, *, hint: str = "") -> ContentProblem:
    where = source.path
    if line is not None:
        where += f", line {line}"
        cell = _cell(source, line)
        where += f" (cell {cell})" if cell else ""
    return ContentProblem(f"{where}: {reason}.", hint=hint)


def _cell(source: Source, line: int) -> int:
    """Which cell of a notebook that line is in, from 1; 0 if it cannot be told.

    The notebook may be no JSON before it is rendered, so it is not parsed: Jupyter writes `cell_type` as the
    first key of each cell and on a line of its own.
    """
    if not source.is_notebook:
        return 0
    until = b"\n".join(source.content.split(b"\n")[:line])
    return len(_CELL.findall(until))


def _line(template: Template, error: BaseException) -> int | None:
    found = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__jinja_template__") is template:
            found = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return found


def _reason(error: BaseException) -> str:
    if isinstance(error, UndefinedVariable):
        return f"the variable {error.name!r} is not defined"
    if isinstance(error, SecurityError):
        return f"not allowed in a workshop: {str(error).rstrip('.')}"
    if isinstance(error, TemplateNotFound):
        return f"it includes {error.name!r}: expected no includes and imports"
    if isinstance(error, MemoryError):
        return "it needs too much memory"
    if isinstance(error, UnicodeEncodeError):
        return "a value holds a character that is no Unicode text"
    text = error.message if isinstance(error, TemplateSyntaxError) else str(error)
    return (text or type(error).__name__).rstrip(".")
