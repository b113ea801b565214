"""Compiled path templates of the SDSS tree: pure functions from values to a path, and from a path to values.

A template is compiled for one release, whose versions (``apred``, ``run2d``, ...) are filled in once. The templates
come from `tree`, their special functions from `special`, and what a value may look like is said by `keys`. Nothing
here touches the disk or the environment.
"""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from astra_dagster.datamodel.keys import MAX_PART, Key
from astra_dagster.datamodel.special import LEGACY_RUN2D, SPECIALS, Special
from astra_dagster.datamodel.tree import SAS, Tree
from astra_dagster.errors import ConfigurationError, PathMismatchError, UnresolvableTemplateError

COMPRESSIONS = (".gz", ".bz2", ".fz", ".zip")
"""Suffixes of compressed variants; a file and its compressed variant are the same partition."""

AGAIN = "__"
"""Marks in `Template.segments` a group that is a further occurrence of the key whose name precedes the mark."""

_TOKEN = re.compile(r"\{([^}:]+)(?::([^}]*))?\}|@(\w+)\|")
_FOLDED = ("isplate", "sptypefolder", "epochflag")


@dataclass(frozen=True)
class Field:
    """A key in a template, with its format specification.

    `repad` is the number of digits to write, where it differs from that of the canonical text.
    """

    key: str
    spec: str = ""
    repad: int | None = None

    @property
    def width(self) -> int:
        """Number of digits to which this occurrence is padded."""
        padded = re.match(r"0>([0-9]+)", self.spec)
        return int(padded.group(1)) if padded else 0

    @property
    def truncates(self) -> bool:
        """Whether the path shows only the beginning of the value."""
        return "." in self.spec

    @property
    def shown(self) -> int:
        """How many characters of the value the path shows."""
        return int(self.spec.partition(".")[2]) if self.truncates else MAX_PART


Token = str | Field | Special


@dataclass(frozen=True)
class Template:
    """A compiled path template; make one with `compile_template`.

    Attributes
    ----------
    product, release
        Product and release that the template belongs to.
    keys
        The keys that a data ID must give, by SDSS name.
    versions
        The keys that the release gives.
    software
        Whether the path lies below PRODUCT_ROOT, in a software product, and not on the SAS.
    roots
        Folder where the path starts; there are two where ``run2d`` chooses between SDSS and BOSS reductions.
    segments
        Regular expressions of the folders below it and of the file name, in order, for walking along the template.
    """

    product: str
    release: str
    keys: Mapping[str, Key]
    versions: Mapping[str, str]
    software: bool
    roots: tuple[str, ...]
    segments: tuple[re.Pattern[str], ...]
    _tokens: tuple[Token, ...] = field(repr=False)
    _pattern: re.Pattern[str] = field(repr=False)

    def format(self, values: Mapping[str, str]) -> str:
        """Return the path, relative to SAS_BASE_DIR (for software products to PRODUCT_ROOT).

        Parameters
        ----------
        values
            Canonical text by SDSS key, one for each of `keys`; those of optional keys may be missing.
        """
        everything = {**self.versions, **values}
        pieces: list[str] = [self._root(everything)]
        for token in self._tokens:
            if isinstance(token, str):
                pieces.append(token)
            elif isinstance(token, Field):
                pieces.append(_write_value(token, everything[token.key]))
            else:
                pieces.append(token.function(everything, self.product))
        path = "".join(pieces)
        return re.sub("/{2,}", "/", path) if "//" in path else path

    def read(self, path: str) -> tuple[dict[str, str], str]:
        """Read a path as `format` returns it, or a compressed variant of such a path.

        Returns
        -------
        values, path
            Values by SDSS key, and the path that `format` makes of them.

        Raises
        ------
        PathMismatchError
            If `format` returns that path for no values.
        """
        for candidate in _list_variants(path):
            match = self._pattern.fullmatch(candidate)
            if match is None:
                continue
            values = {
                name: self.keys[name].canonical(text)
                for name, text in match.groupdict().items()
                if text and AGAIN not in name
            }
            formatted = self.format(values)
            if formatted in (candidate, drop_full(candidate) if self._optional_full else candidate):
                return values, formatted
        raise PathMismatchError(
            f"not a path of {self.product} in {self.release}",
            path=path,
            hint=f"such a path looks like {self.shape}",
        )

    def shows(self, path: str, values: Mapping[str, str]) -> bool:
        """Whether `read` reads these values from the path that `format` has made of them; False if it is not sure.

        It is sure where the path has each value as it is, which takes a fifth of the time.
        """
        match = self._pattern.fullmatch(path)
        if match is None:
            return False
        return {name: text for name, text in match.groupdict().items() if text and AGAIN not in name} == values

    @cached_property
    def sdss_names(self) -> dict[str, str]:
        """SDSS names of the keys, by our names."""
        return {key.name: name for name, key in self.keys.items()}

    @cached_property
    def _optional_full(self) -> bool:
        """Whether a folder ``full`` is no error: mirrors that follow the tree have it where the archive has not."""
        return SPECIALS["fullfolder"] in self._tokens

    @property
    def shape(self) -> str:
        """The template with the release's versions filled in, for people to read."""
        names = {id(special): name for name, special in SPECIALS.items()}
        pieces = [self.roots[0]]
        for token in self._tokens:
            if isinstance(token, str):
                pieces.append(token)
            elif isinstance(token, Field):
                pieces.append(f"{{{token.key}}}")
            else:
                pieces.append(f"@{names[id(token)]}|")
        return "".join(pieces)

    def _root(self, values: Mapping[str, str]) -> str:
        return self.roots[values["run2d"] not in LEGACY_RUN2D] if self.roots[1:] else self.roots[0]


def _write_value(token: Field, value: str) -> str:
    if token.truncates:
        return format(value, token.spec)
    return value if token.repad is None else str(int(value)).zfill(token.repad)


def drop_full(path: str) -> str:
    """Return a path of spectra without the folder ``full``."""
    return path.replace("/spectra/full/", "/spectra/", 1)


def add_full(path: str) -> str:
    """Return a path of spectra with the folder ``full``."""
    return drop_full(path).replace("/spectra/", "/spectra/full/", 1)


def _list_variants(path: str) -> tuple[str, ...]:
    stem, suffix = posixpath.splitext(path)
    return (path, stem) if suffix in COMPRESSIONS else (path, *(path + c for c in COMPRESSIONS))


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
