"""Compile path templates of the SDSS tree: from the text of a template to a `Template`, for one release.

The texts come from `tree`, their special functions from `special`, and what a value may look like is said by `keys`.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from astra_dagster.datamodel.keys import Key
from astra_dagster.datamodel.special import SPECIALS, Special
from astra_dagster.datamodel.templates import AGAIN, Field, Template, Token
from astra_dagster.datamodel.tree import SAS, Tree
from astra_dagster.errors import ConfigurationError, UnresolvableTemplateError

_TOKEN = re.compile(r"\{([^}:]+)(?::([^}]*))?\}|@(\w+)\|")
_FOLDED = ("isplate", "sptypefolder", "epochflag")


def compile_template(tree: Tree, product: str, versions: Mapping[str, str | None], release: str) -> Template:
    """Compile the template of `product` in `tree`.

    Parameters
    ----------
    versions
        Text by SDSS key that the release fixes; None where it should fix the key and has no default.
    release
        Name of the release, for messages.

    Raises
    ------
    UnresolvableTemplateError
        If no path can be formed from the tree's template.
    ConfigurationError
        If the template needs a version that the release does not give.
    """
    text = tree.templates[product]
    start, slash, rest = text.partition("/")
    tokens = _tokenise(rest)
    named = {token.key for token in tokens if isinstance(token, Field)}
    if "run1d" in named and "run2d" in named:
        tokens = [Field("run2d", t.spec) if isinstance(t, Field) and t.key == "run1d" else t for t in tokens]
        named.discard("run1d")
    if "prefix" in named and {"telescope", "instrument"} & named:
        tokens = [SPECIALS["apgprefix"] if isinstance(t, Field) and t.key == "prefix" else t for t in tokens]
        named.discard("prefix")

    roots, software = _find_roots(tree, start, release, product)
    roots = tuple(root + slash for root in roots)
    fixed = _find_versions(named, versions, release, product)
    tokens = _fold(tokens, fixed, product)
    keys = _make_keys(tokens, fixed, f"{start.strip('$@|')}/{product}", apogee="apred" in named)
    tokens = [_repad(token, keys) if isinstance(token, Field) else token for token in tokens]
    segments = _make_segments(tokens, keys)
    captured = re.findall(r"\(\?P<(\w+)>", "/".join(segments))
    lost = set(keys) - set(captured)
    if lost:
        raise UnresolvableTemplateError(f"{product} in {release}: no path shows the value of {', '.join(sorted(lost))}")
    return Template(
        product=product,
        release=release,
        keys=keys,
        versions=fixed,
        software=software,
        segments=tuple(re.compile(segment) for segment in segments),
        roots=roots,
        _tokens=tuple(tokens),
        _pattern=re.compile("(?:" + "|".join(map(re.escape, roots)) + ")" + _join_segments(segments)),
    )


def _tokenise(text: str) -> list[Token]:
    tokens: list[Token] = []
    position = 0
    for match in _TOKEN.finditer(text):
        if literal := text[position : match.start()]:
            tokens.append(literal)
        key, spec, special = match.groups()
        tokens.append(SPECIALS[special] if special else Field(key, spec or ""))
        position = match.end()
    if rest := text[position:]:
        tokens.append(rest)
    return tokens


def _find_roots(tree: Tree, start: str, release: str, product: str) -> tuple[tuple[str, ...], bool]:
    """Return the folders where a template starts, and whether they belong to a software product.

    There are two where ``run2d`` chooses between SDSS and BOSS reductions.
    """
    names = ("SPECTRO_REDUX", "BOSS_SPECTRO_REDUX") if start == "@spectrodir|" else (start[1:],)
    roots = []
    for name in names:
        folder = "$" + name
        while folder.startswith("$") and not folder.startswith("$PRODUCT_ROOT"):
            variable, slash, below = folder[1:].partition("/")
            if variable not in tree.environment:
                raise UnresolvableTemplateError(f"{product} in {release}: the SDSS tree defines no ${variable}")
            folder = tree.environment[variable] + slash + below
        roots.append(re.sub(r"tags/(v?[0-9._]+)", r"\1", folder, count=1))
    top = roots[0].partition("/")[0]
    if top not in (SAS, "$PRODUCT_ROOT"):
        raise UnresolvableTemplateError(f"{product} in {release}: {roots[0]} is not below SAS_BASE_DIR")
    return tuple(root.removeprefix(top).lstrip("/") for root in roots), top != SAS


def _find_versions(named: set[str], versions: Mapping[str, str | None], release: str, product: str) -> dict[str, str]:
    fixed: dict[str, str] = {}
    for key in sorted(named & set(versions)):
        value = versions[key]
        if value is None:
            raise ConfigurationError(
                f"{product} in {release} needs {key}, and {release} has no default for it",
                hint=f'define a release of your own in astra.toml: [releases.MINE] tree = "{release}", {key} = "..."',
            )
        fixed[key] = value
    return fixed


def _fold(tokens: list[Token], fixed: Mapping[str, str], product: str) -> list[Token]:
    """Replace tokens that the release fixes by their text, and join neighbouring texts."""
    folded: list[Token] = []
    constant = {id(SPECIALS[name]) for name in _FOLDED} if "run2d" in fixed else set()
    for token in tokens:
        if isinstance(token, Field) and token.key in fixed:
            token = format(fixed[token.key], token.spec) if token.truncates else fixed[token.key]
        elif isinstance(token, Special) and id(token) in constant:
            token = token.function(fixed, product)
        if isinstance(token, str) and folded and isinstance(folded[-1], str):
            folded[-1] += token
        else:
            folded.append(token)
    return [
        re.sub("/{2,}", "/", t).lstrip("/" if i == 0 else "") if isinstance(t, str) else t for i, t in enumerate(folded)
    ]


def _make_keys(tokens: list[Token], fixed: Mapping[str, str], of: str, *, apogee: bool) -> dict[str, Key]:
    widths: dict[str, int] = {}
    numbers: set[str] = set()
    optional: set[str] = set()
    for token in tokens:
        if isinstance(token, Field):
            if not token.key.isidentifier():
                raise UnresolvableTemplateError(f"the SDSS tree writes a key {{{token.key}}} that no value can fill")
            widths[token.key] = max(widths.get(token.key, 0), token.width)
            if token.spec.endswith("d"):
                numbers.add(token.key)
        elif isinstance(token, Special):
            if token is SPECIALS["apgprefix"]:
                apogee = True
            for key in token.keys:
                if key == "plate" and "plateid" in widths:
                    continue
                if key not in fixed:
                    widths.setdefault(key, 0)
                    if key in token.optional:
                        optional.add(key)
    written = {token.key for token in tokens if isinstance(token, Field)}
    return {
        key: Key(key, width, key in numbers, optional=key in optional - written, apogee=apogee, of=of)
        for key, width in widths.items()
    }


def _repad(token: Field, keys: Mapping[str, Key]) -> Field:
    differs = token.width != keys[token.key].width and not token.truncates
    return replace(token, repad=token.width) if differs else token


def _make_segments(tokens: list[Token], keys: Mapping[str, Key]) -> list[str]:
    """Return regular expressions of the folders and the file name; each captures a key where it shows most of it."""
    capturing: dict[str, int] = {}
    for i, token in enumerate(tokens):
        if isinstance(token, Special):
            for key in re.findall(r"\(\?P<(\w+)>", token.pattern):
                capturing.setdefault(key, i)
    fields = [(i, token) for i, token in enumerate(tokens) if isinstance(token, Field)]
    for i, token in sorted(fields, key=lambda field: field[1].shown):
        capturing[token.key] = i

    pieces = []
    for i, token in enumerate(tokens):
        if isinstance(token, str):
            pieces.append(re.escape(token))
        elif isinstance(token, Special):
            keep = {key for key, at in capturing.items() if at == i}
            pieces.append(_keep_groups(token.pattern, keep))
        elif capturing.get(token.key) == i:
            pieces.append(f"(?P<{token.key}>{_leave_room(keys[token.key].pattern, tokens[i + 1 : i + 2])})")
        else:
            again = "[^/]*?" if token.truncates else _match_again(keys[token.key], i, tokens[i + 1 : i + 2])
            pieces.append(again)
    return _split("".join(pieces))


def _keep_groups(pattern: str, groups: set[str]) -> str:
    """Keep the names of these groups of a regular expression, and remove those of others."""
    return re.sub(r"\(\?P<(\w+)>", lambda match: match[0] if match[1] in groups else "(?:", pattern)


def _leave_room(pattern: str, following: list[Token]) -> str:
    """Let a pattern of text end where an optional key can begin: ``allepoch_apo`` is ``allepoch`` of ``apo``."""
    optional = following and isinstance(following[0], Special) and following[0].optional
    return re.sub(r"\*$", "*?", pattern) if optional else pattern


def _match_again(key: Key, position: int, following: list[Token]) -> str:
    pattern = "[0-9]+" if key.numeric else _leave_room(key.pattern, following)
    return f"(?P<{key.sdss_name}{AGAIN}{position}>{pattern})"


def _split(pattern: str) -> list[str]:
    """Split a regular expression at the slashes that are not inside a group or a character class."""
    segments, depth, in_class, current = [], 0, False, ""
    i = 0
    while i < len(pattern):
        character = pattern[i]
        if character == "\\":
            current += pattern[i : i + 2]
            i += 2
            continue
        if in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == "/" and depth == 0:
            segments.append(current)
            current = ""
            i += 1
            continue
        current += character
        i += 1
    return [*segments, current]


def _join_segments(segments: list[str]) -> str:
    folders = [f"(?:{s}/)?" if re.fullmatch(s, "") else f"{s}/" for s in segments[:-1]]
    return "".join(folders) + segments[-1]
