"""
A very small shell, so that the same commands mean the same on the fake and on a real runtime.

It knows what the programs of tests say: `echo`, `cat`, `sleep`, `exit`, `trap`, `read`, variables,
`>&2`, `;` and `&&`. A command it does not know ends with 127, as sh says.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from edgekube.runtime.fake.process import STDERR, STDOUT, Process

Builtin = Callable[[Process, Sequence[str], int], Awaitable[int]]
"""Gets the process, the words after the command's name and the channel its output goes to."""

WORDS = re.compile(r"""'([^']*)'|"([^"]*)"|(&&|[;&\n])|([^\s;&'"]+(?:&[0-9])?)""")
VARIABLE = re.compile(r"\$\{?(\w+)\}?")
NOT_FOUND = 127
FOREVER = 10.0**9


class Exit(Exception):
    """The `exit` command."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


async def run(process: Process, programs: Mapping[str, Builtin]) -> int:
    """Run the process's argv and return its exit code; signals run its traps."""
    main = asyncio.ensure_future(_command(process, process.argv, programs))
    try:
        while True:
            signal = asyncio.ensure_future(process.next_signal())
            await asyncio.wait((main, signal), return_when=asyncio.FIRST_COMPLETED)
            if main.done():
                signal.cancel()
                return main.result()
            try:
                await _script(process, signal.result(), programs)
            except Exit as end:
                return end.code
    except Exit as end:
        return end.code
    finally:
        main.cancel()


async def _command(process: Process, argv: Sequence[str], programs: Mapping[str, Builtin]) -> int:
    name = argv[0].rpartition("/")[2] if argv else ""
    if name == "sh":
        return await _script(process, argv[2], programs) if "-c" in argv[1:2] else 0
    words, channel = [word for word in argv[1:] if word != ">&2"], STDERR if ">&2" in argv else STDOUT
    program = programs.get(name) or BUILTINS.get(name)
    if program is None:
        process.emit(STDERR, f"sh: {name}: not found\n".encode())
        return NOT_FOUND
    return await program(process, words, channel)


async def _script(process: Process, text: str, programs: Mapping[str, Builtin]) -> int:
    code = 0
    variables = dict(process.surroundings.env)
    for words, separator in _statements(text):
        argv = [_expand(word, quoted, variables) for word, quoted in words]
        if argv[0] == "read":
            line = await process.readline()
            variables[argv[1]] = line.decode().strip()
            code = 0 if line else 1
        elif separator == "&":
            code = 0  # in the background: nothing waits for it, and `wait` never ends
        else:
            code = await _command(process, argv, programs)
        if separator == "&&" and code:
            break
    return code


def _statements(text: str) -> list[tuple[list[tuple[str, bool]], str]]:
    statements: list[tuple[list[tuple[str, bool]], str]] = []
    words: list[tuple[str, bool]] = []
    for single, double, separator, plain in WORDS.findall(text):
        if separator:
            if words:
                statements.append((words, separator))
            words = []
        else:
            words.append((single or double or plain, bool(single)))
    return [*statements, (words, ";")] if words else statements


def _expand(word: str, quoted: bool, variables: Mapping[str, str]) -> str:  # noqa: FBT001 - the tokeniser's pair
    return word if quoted else VARIABLE.sub(lambda match: variables.get(match[1], ""), word)


# --- Commands -----------------------------------------------------------------------------------


async def _echo(process: Process, words: Sequence[str], channel: int) -> int:
    bare = words[:1] == ["-n"]
    process.emit(channel, (" ".join(words[1:] if bare else words) + ("" if bare else "\n")).encode())
    return 0


async def _exit(_process: Process, words: Sequence[str], _channel: int) -> int:
    raise Exit(int(words[0]) if words else 0)


async def _sleep(_process: Process, words: Sequence[str], _channel: int) -> int:
    await asyncio.sleep(FOREVER if words[:1] == ["infinity"] else float(words[0]))
    return 0


async def _wait(_process: Process, _words: Sequence[str], _channel: int) -> int:
    await asyncio.sleep(FOREVER)
    return 0


async def _true(_process: Process, _words: Sequence[str], _channel: int) -> int:
    return 0


async def _false(_process: Process, _words: Sequence[str], _channel: int) -> int:
    return 1


async def _cat(process: Process, words: Sequence[str], channel: int) -> int:
    for word in words:
        path, _ = _find(process, word)
        try:
            process.emit(channel, path.read_bytes())
        except OSError as error:
            process.emit(STDERR, f"cat: {word}: {error.strerror}\n".encode())
            return 1
    while not words and (data := await process.read()):
        process.emit(channel, data)
    return 0


async def _touch(process: Process, words: Sequence[str], _channel: int) -> int:
    path, read_only = _find(process, words[0])
    if read_only:
        process.emit(STDERR, f"touch: {words[0]}: Read-only file system\n".encode())
        return 1
    if path != NOWHERE:
        path.touch()
    return 0


async def _printenv(process: Process, words: Sequence[str], channel: int) -> int:
    env = process.surroundings.env
    if not words:
        process.emit(channel, "".join(f"{key}={value}\n" for key, value in env.items()).encode())
    elif words[0] in env:
        process.emit(channel, f"{env[words[0]]}\n".encode())
    return 0 if not words or words[0] in env else 1


async def _id(process: Process, words: Sequence[str], channel: int) -> int:
    user, _, group = (process.surroundings.user or "0").partition(":")
    process.emit(channel, f"{group or 0 if words[:1] == ['-g'] else user}\n".encode())
    return 0


async def _hostname(process: Process, _words: Sequence[str], channel: int) -> int:
    process.emit(channel, f"{process.surroundings.hostname}\n".encode())
    return 0


async def _seq(process: Process, words: Sequence[str], channel: int) -> int:
    for number in range(1, int(words[-1]) + 1):
        process.emit(channel, b"%d\n" % number)
    return 0


async def _stty(process: Process, _words: Sequence[str], channel: int) -> int:
    width, height = process.size
    process.emit(channel, b"%d %d\n" % (height, width))
    return 0


async def _trap(process: Process, words: Sequence[str], _channel: int) -> int:
    for name in words[1:]:
        process.traps[f"SIG{name.removeprefix('SIG')}"] = words[0]
    return 0


async def _tail(process: Process, words: Sequence[str], _channel: int) -> int:
    """`tail -c 64m /dev/zero` takes that much memory: the usual way to be killed for it."""
    size = int(words[1].rstrip("m")) << 20 if words[:1] == ["-c"] else 0
    limit = process.surroundings.memory
    if limit is not None and size > limit:
        process.oom = True
        raise Exit(137)
    await asyncio.sleep(FOREVER)
    return 0


NOWHERE = Path("/nonexistent/in-image")


def _find(process: Process, target: str) -> tuple[Path, bool]:
    """Return the file on the node behind a path in the container, and whether it cannot be written."""
    mounts = process.surroundings.mounts
    for mount in sorted(mounts, key=len, reverse=True):
        if target == mount or target.startswith(f"{mount.rstrip('/')}/"):
            source, read_only = mounts[mount]
            return source / target[len(mount) :].lstrip("/"), read_only
    return NOWHERE, process.surroundings.read_only_root


BUILTINS: Mapping[str, Builtin] = {
    "echo": _echo,
    "exit": _exit,
    "sleep": _sleep,
    "wait": _wait,
    "true": _true,
    "false": _false,
    "cat": _cat,
    "touch": _touch,
    "printenv": _printenv,
    "env": _printenv,
    "id": _id,
    "hostname": _hostname,
    "seq": _seq,
    "stty": _stty,
    "trap": _trap,
    "tail": _tail,
}
