"""One-line refusals for what may not be set in the bundle's configs.

MONAI takes an override that nobody reads without a word, and answers a wrong argument with pages of
traceback. The configs therefore call :func:`check` first.
"""

from __future__ import annotations

import difflib
import inspect
import pydoc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from iscl_monai.configuration.hook import install_hook
from iscl_monai.configuration.settings import FLAG, SETTINGS, STRUCTURE
from iscl_monai.domain import CT, domain_named
from iscl_monai.errors import ConfigRefusal


def check(*needed: str) -> None:
    """Check the configuration that is being run, before anything expensive starts.

    Called by the configs' ``initialize``. MONAI 1.6 gives expressions no reference to the whole configuration (``@``
    and ``%`` evaluate or copy parts, and evaluating everything would start the run), so it is looked up where MONAI
    keeps it: in the parser further up the stack. Where no parser is found, nothing can be checked and nothing runs.

    Args:
        needed: settings that must not be null.

    Raises:
        ConfigRefusal: for an unknown setting or argument, naming the nearest one, for a wrong type, and when called
            from anywhere but a configuration.
    """
    install_hook()
    config = _running_config()
    for name, value in config.items():
        if name not in SETTINGS and name not in STRUCTURE:
            raise _unknown(f"--{name}", name, [*SETTINGS, *STRUCTURE])
        if name in SETTINGS:
            _check_type(name, value)
    for name in needed:
        if _followed(config, name) is None:
            raise ConfigRefusal(f"--{name} is not given", allowed="a path", cure=f"add --{name} PATH")
    _check_domain(config)
    _check_references(config)
    _check_folder("dataset_dir", config.get("dataset_dir"))
    for place, component in _components(config, ""):
        _check_arguments(place, component)


def _check_domain(config: Mapping[str, Any]) -> None:
    """Refuse settings that have no meaning for the images of the domain."""
    name = config.get("domain", CT.name)
    domain = domain_named(str(name))
    for setting, required in domain.required.items():
        value = _followed(config, setting)
        if setting in config and value != required:
            raise ConfigRefusal(
                f"--{setting} {value} with {domain.title}",
                allowed=f"--{setting} {required}",
                cure="give the config of such images last: em.json, mr.json",
            )


def _check_references(config: Mapping[str, Any]) -> None:
    """Refuse configs that do not belong together: one refers to what another has replaced."""
    from monai.bundle.reference_resolver import ReferenceResolver

    for place, text in _texts(config, ""):
        for name in ReferenceResolver.match_refs_pattern(text):
            parts = name.split(ReferenceResolver.sep)
            if not _is_there(config, parts):
                raise ConfigRefusal(
                    f"{place} refers to {'#'.join(parts)}, which the given configs do not have",
                    allowed="configs that belong together",
                    cure="leave out the one that is for other images, or for another method",
                )


def _texts(node: Any, place: str) -> Iterator[tuple[str, str]]:
    """All texts of a configuration, each with its place."""
    if isinstance(node, str):
        yield place, node
    children: Sequence[tuple[Any, Any]] = []
    if isinstance(node, Mapping):
        children = list(node.items())
    elif isinstance(node, (list, tuple)):
        children = list(enumerate(node))
    for name, child in children:
        yield from _texts(child, f"{place}#{name}" if place else str(name))


def _is_there(node: Any, names: Sequence[str]) -> bool:
    for name in names:
        if isinstance(node, Mapping) and name in node:
            node = node[name]
        elif isinstance(node, (list, tuple)) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        else:
            return False
    return True


def _running_config() -> Mapping[str, Any]:
    from monai.bundle import ConfigParser

    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        config: Any = caller.config if isinstance(caller, ConfigParser) else None
        if isinstance(config, Mapping):
            return config
        frame = frame.f_back
    raise ConfigRefusal(
        "the configuration that is being run was not found, so its settings cannot be checked",
        allowed="configuration.check() in 'initialize' of a config that MONAI's ConfigParser evaluates",
        cure="start it with python -m monai.bundle run, of a version of MONAI that pyproject.toml allows",
    )


def _followed(config: Mapping[str, Any], name: str) -> Any:
    """The value of a setting, or of the one it refers to."""
    value = config.get(name)
    while isinstance(value, str) and value.startswith("@") and value[1:] in config:
        value = config[value[1:]]
    return value


def _unknown(place: str, word: str, known: Sequence[str]) -> ConfigRefusal:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return ConfigRefusal(
        f"{place} is not known",
        allowed=", ".join(sorted(known)) if not near else "settings of docs/settings.md",
        cure=f"did you mean {place.replace(word, near[0])}?" if near else "leave it out",
    )


def _check_type(name: str, value: Any) -> None:
    types = SETTINGS[name]
    computed = isinstance(value, str) and value.startswith(("$", "@", "%"))
    if not types or computed:
        return
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        allowed = " or ".join("null" if t is type(None) else t.__name__ for t in types)
        raise ConfigRefusal(
            f"--{name} is {value!r}, a {type(value).__name__}",
            allowed=allowed,
            cure="write True or False with a capital letter" if types == FLAG else f"give {name} as {allowed}",
        )


def _check_folder(name: str, value: Any) -> None:
    if isinstance(value, str) and not value.startswith(("$", "@", "%")) and not Path(value).exists():
        raise ConfigRefusal(
            f"--{name} {value} does not exist",
            allowed="an existing folder",
            cure=f"look for it in {Path.cwd()}",
        )


def _components(node: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield place, node
        children: Sequence[tuple[Any, Any]] = list(node.items())
    else:
        children = list(enumerate(node)) if isinstance(node, (list, tuple)) else []
    for name, child in children:
        yield from _components(child, f"{place}#{name}" if place else str(name))


def _check_arguments(place: str, component: Mapping[str, Any]) -> None:
    target = component["_target_"]
    if not isinstance(target, str) or not target.startswith("iscl_monai."):
        return  # MONAI resolves its own short names, and tells of their arguments itself
    found = pydoc.locate(target)
    if found is None:
        raise ConfigRefusal(f"{place}: {target} does not exist", allowed="a class or function", cure="check the name")
    signature = inspect.signature(found)  # type: ignore[arg-type]
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
        return
    for argument in component:
        if not str(argument).startswith("_") and argument not in signature.parameters:
            raise _unknown(f"{place}#{argument}", str(argument), list(signature.parameters))
