"""Classes and functions of this project with all that they use, as files that stand beside a model and import each other only.

A model that no class of transformers can hold takes its code along. Each module of ours becomes one file of the same name, with
underscores for dots, which holds those definitions of it that are needed, word for word.
"""

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

#: Packages whose code is taken along; everything else has to be installed where the model is loaded.
OWN = ("mgll", "mllm_adapters")
#: What stands in the place of a class of ours that only says which type an argument has.
_STAND_IN = "Any"


@dataclass
class Module:
    """A module of ours in parts.

    Attributes:
        name: its name in Python.
        text: its source.
        bound: statements at its top by the names that they define, imports among them.
        methods: methods by `Class.method`.
        needed: names that are written, of both kinds.
        annotated: names of our classes that needed definitions mention in types alone.
    """

    name: str
    text: str
    bound: dict[str, list[ast.stmt]] = field(default_factory=lambda: defaultdict(list))
    methods: dict[str, ast.FunctionDef] = field(default_factory=dict)
    needed: set[str] = field(default_factory=set)
    annotated: set[str] = field(default_factory=set)


def file_of(module: str) -> str:
    """Name of the file, without `.py`, into which a module is written."""
    return module.replace(".", "_")


def files_with(entries: list[tuple[str, str]]) -> dict[str, str]:
    """Source files by name in which all of these can be imported.

    Args:
        entries: module and name of a class or function, or of a method as `Class.method`, which becomes a function.

    Raises:
        ValueError: if a definition uses a module of ours as a whole, or a method its `self`; neither can be cut out.
    """
    modules: dict[str, Module] = {}
    waiting = list(entries)
    while waiting:
        name, wanted = waiting.pop()
        module = modules[name] = modules.get(name) or _read(name)
        if wanted in module.needed:
            continue
        module.needed.add(wanted)
        waiting += _uses(module, wanted)
    return {f"{file_of(name)}.py": _written(module) for name, module in sorted(modules.items())}


def entry(thing: Any) -> tuple[str, str]:
    """Module and name under which a class, function or method is defined."""
    return thing.__module__, thing.__qualname__


def is_own(module: str | None) -> bool:
    """Whether a module belongs to this project."""
    return (module or "").partition(".")[0] in OWN


def _read(name: str) -> Module:
    text = Path(inspect.getfile(import_module(name))).read_text(encoding="utf-8")
    module = Module(name, text)
    for node in ast.parse(text).body:
        for bound in _binds(node):
            module.bound[bound].append(node)
        if isinstance(node, ast.ClassDef):
            module.methods |= {f"{node.name}.{f.name}": f for f in node.body if isinstance(f, ast.FunctionDef)}
    return module


def _binds(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in names)
        case ast.Assign(targets=targets):
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.AugAssign(target=ast.Name(id=name)):
            yield name


def _nodes(module: Module, wanted: str) -> list[Any]:
    if wanted in module.methods:
        return [module.methods[wanted]]
    if wanted in module.bound:
        return module.bound[wanted]
    raise ValueError(f"{module.name} does not define {wanted}")


def _uses(module: Module, wanted: str) -> Iterator[tuple[str, str]]:
    """Module and name of everything of ours that a definition uses; names of its own module among them."""
    for node in _nodes(module, wanted):
        if isinstance(node, ast.ImportFrom | ast.Import):
            if isinstance(node, ast.ImportFrom) and is_own(node.module):
                yield from _imported(node, wanted)
            continue
        if wanted in module.methods and any(isinstance(n, ast.Name) and n.id == "self" for n in _values(node)):
            raise ValueError(f"{module.name}.{wanted} uses its self and can't be cut out as a function")
        values = {n.id for n in _values(node) if isinstance(n, ast.Name)}
        yield from ((module.name, name) for name in sorted(values & module.bound.keys()))
        for name in sorted({n.id for n in ast.walk(node) if isinstance(n, ast.Name)} & module.bound.keys() - values):
            if _is_own_name(module, name):
                module.annotated.add(name)
            else:
                yield module.name, name
        for inner in ast.walk(node):
            if isinstance(inner, ast.ImportFrom) and is_own(inner.module):
                yield from _imported(inner)


def _imported(node: ast.ImportFrom, wanted: str | None = None) -> Iterator[tuple[str, str]]:
    for alias in node.names:
        if wanted in (None, alias.asname or alias.name):
            if hasattr(import_module(str(node.module)), "__path__"):
                raise ValueError(
                    f"{node.module}.{alias.name} is a module of ours; import the names that are used from it"
                )
            yield str(node.module), alias.name


def _is_own_name(module: Module, name: str) -> bool:
    """Whether a name stands for a class or type of ours, defined here or imported."""
    return any(
        is_own(node.module) if isinstance(node, ast.ImportFrom) else not isinstance(node, ast.Import)
        for node in module.bound[name]
    )


def _values(node: ast.AST, inside: bool = False) -> Iterator[ast.AST]:
    """All nodes below one, but not the types of arguments, results and local variables, which nothing reads at run time.

    The types of a class's fields are read, by `dataclass`.
    """
    yield node
    inside = inside or isinstance(node, ast.FunctionDef | ast.Lambda)
    types = {"annotation", "returns"} if inside else set()
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and name not in types:
                yield from _values(child, inside)


def _written(module: Module) -> str:
    """The source of the file: what is needed of a module, in the order in which it stands there."""
    tops: dict[int, ast.stmt] = {}
    imports: list[str] = []
    for name in module.needed - module.methods.keys():
        for node in module.bound[name]:
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports.append(_import_line(node, name))
            else:
                tops[node.lineno] = node
    stand_ins = sorted(module.annotated - module.needed)
    if stand_ins:
        imports.append("from typing import Any")
    parts = [
        f'"""Taken from {module.name} of MGLL-graft (Apache-2.0): what the model in this folder needs of it."""',
        "\n".join(sorted(set(imports), key=lambda line: (line.startswith("from ."), line))),
        "\n".join(f"{name} = {_STAND_IN}" for name in stand_ins),
        *(_text(module, node) for _, node in sorted(tops.items())),
        *(_function(module, name) for name in sorted(module.needed & module.methods.keys())),
    ]
    return "\n\n\n".join(part for part in parts if part) + "\n"


def _import_line(node: ast.Import | ast.ImportFrom, name: str) -> str:
    alias = next(alias for alias in node.names if (alias.asname or alias.name).partition(".")[0] == name)
    if isinstance(node, ast.Import):
        return ast.unparse(ast.Import([alias]))
    own = is_own(node.module)
    return ast.unparse(ast.ImportFrom(file_of(str(node.module)) if own else node.module, [alias], int(own)))


def _text(module: Module, node: Any) -> str:
    """A statement as it stands in the source, comments included, but imports of ours inside it are relative."""
    lines = module.text.splitlines()
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    while lines[first - 2].startswith("#"):  # the comment above it
        first -= 1
    found = dict(enumerate(lines[first - 1 : node.end_lineno], start=first))
    for inner in ast.walk(node):
        if isinstance(inner, ast.ImportFrom) and is_own(inner.module):
            line = ast.unparse(ast.ImportFrom(file_of(str(inner.module)), inner.names, 1))
            found[inner.lineno] = " " * inner.col_offset + line
            for further in range(inner.lineno + 1, (inner.end_lineno or inner.lineno) + 1):
                del found[further]
    return "\n".join(found.values())


def _function(module: Module, name: str) -> str:
    node = module.methods[name]
    text = _text(module, node)
    return re.sub(rf"^ {{{node.col_offset}}}", "", text, flags=re.MULTILINE)
