"""The process that locks a program up and runs it: ``python -P -s jail.py``, with its task on standard input, in JSON.

It imports nothing of ours: of the machine, the jail has Python, installed packages and the system's libraries alone.

1. Namespaces of users, mounts, processes, network and IPC. No network is in the new one; nobody's processes are.
   Where root starts this, programs are given the ids of nobody, because the kernel does not limit root's processes.
2. A root folder in memory, in which what is needed is mounted, read-only. The old root is let go: there are no paths to
   the store, to home folders, to the environment of other processes.
3. For each input a fork with an empty folder of limited size, limits of the kernel on CPU time, address space,
   processes and files, no privileges, and no way to get any.
4. This process is number 1 of its namespace. It watches the clock, what all processes hold and how much is printed, and
   after each run kills whatever is there. It is killed when whoever started it ends, and the kernel ends all the rest.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    *(0x00020000, 0x04000000, 0x08000000),
    *(0x10000000, 0x20000000, 0x40000000),
)
_NOSUID, _NODEV, _NOEXEC, _BIND, _REC, _PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_DETACH = 2
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_SET_PDEATHSIG, _SET_DUMPABLE, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 1, 4, 24, 38
_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL = 47, 4
_MOST_CAPABILITIES = 64
_CAPABILITY_VERSION_3 = 0x20080522
_NOBODY = 65534
_OLD, _BOX = "/old", "/box"
"""The old root, until it is let go; and where a program may write."""
_LOOK_SECONDS = 0.02
"""Between two looks at what processes hold."""
_LAST_SECONDS = 0.001
"""Between two at a process that has closed what it writes to, and is about to end."""


class _Refused(Exception):
    """The machine does not allow it."""


def main() -> None:
    """Runs the task on standard input, and writes a line for each of its inputs."""
    _call(_LIBC.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    task = json.load(sys.stdin)
    try:
        maps = _own_namespaces(task["uid"], task["gid"])
    except _Refused as refused:
        _say({"refused": str(refused)})
        return
    first = os.fork()  # the first process of the new namespace; this one stays outside
    if first:
        os.waitpid(first, 0)
        return
    _call(_LIBC.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    _call(_LIBC.prctl(_SET_DUMPABLE, 0, 0, 0, 0), "prctl")  # nobody may look into it
    try:
        _own_root(task["folders"])
    except _Refused as refused:
        _say({"refused": str(refused)})
        os._exit(0)
    for given in task["inputs"]:
        _say(_run(task, given, nobody=maps))
    os._exit(0)


def _say(value: dict[str, Any]) -> None:
    _write_all(1, json.dumps(value).encode() + b"\n")


def _call(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise _Refused(f"{what}: {os.strerror(number)}")


def _own_namespaces(uid: int, gid: int) -> bool:
    """Whether programs get ids of their own, other than this process's."""
    ready, started = os.pipe(), os.pipe()
    helper = os.fork()
    if not helper:  # only from outside can more than one's own id be mapped
        os.close(started[1])
        os.read(started[0], 1)
        os.write(ready[1], b"1" if _map(os.getppid(), uid, gid, both=True) else b"0")
        os._exit(0)
    _call(_LIBC.unshare(_NEWUSER | _NEWNS | _NEWPID | _NEWNET | _NEWIPC | _NEWUTS), "unshare")
    os.write(started[1], b"1")
    both = os.read(ready[0], 1) == b"1"
    os.waitpid(helper, 0)
    for end in (*ready, *started):
        os.close(end)
    if not both and not _map(os.getpid(), uid, gid, both=False):
        raise _Refused("uid_map: not to be written")
    return both


def _map(process: int, uid: int, gid: int, both: bool) -> bool:
    """Maps 0 to the ids given, and with `both` 1 to those of nobody."""
    try:
        if not both:
            with open(f"/proc/{process}/setgroups", "w") as file:
                file.write("deny")
        for name, outside in (("uid_map", uid), ("gid_map", gid)):
            with open(f"/proc/{process}/{name}", "w") as file:
                file.write(f"0 {outside} 1\n" + f"1 {_NOBODY} 1\n" * both)
    except OSError:
        return False
    return True


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    names = (source.encode(), target.encode(), kind.encode() if kind else None)
    _call(_LIBC.mount(*names, ctypes.c_ulong(flags), options.encode() or None), f"mount {target}")


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("fd", ctypes.c_uint64),
    )


def _read_only(target: str) -> None:
    attributes = _Attributes(_ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV, 0, 0, 0)
    arguments = (_AT_FDCWD, target.encode(), _AT_RECURSIVE, ctypes.byref(attributes), ctypes.sizeof(attributes))
    _call(_LIBC.syscall(_SYS_MOUNT_SETATTR, *arguments), f"mount_setattr {target}")


def _own_root(folders: list[str]) -> None:
    _mount("none", "/", None, _REC | _PRIVATE)
    _mount("tmpfs", "/tmp", "tmpfs", _NOSUID | _NODEV, "size=1m,mode=755")
    os.mkdir(f"/tmp{_OLD}")
    _call(_LIBC.syscall(_SYS_PIVOT_ROOT[os.uname().machine], b"/tmp", f"/tmp{_OLD}".encode()), "pivot_root")
    os.chdir("/")
    for path in folders:
        _show(path)
    os.mkdir("/proc")
    _mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    os.mkdir("/dev")
    for name in ("null", "zero", "random", "urandom"):
        os.close(os.open(f"/dev/{name}", os.O_CREAT | os.O_WRONLY))
        _mount(f"{_OLD}/dev/{name}", f"/dev/{name}", None, _BIND)
    os.mkdir(_BOX)
    if not os.path.exists("/tmp"):
        os.symlink(_BOX, "/tmp")
    _call(_LIBC.umount2(_OLD.encode(), _DETACH), "umount")
    os.rmdir(_OLD)
    attributes = _Attributes(_ATTR_RDONLY, 0, 0, 0)
    arguments = (_AT_FDCWD, b"/", 0, ctypes.byref(attributes), ctypes.sizeof(attributes))
    _call(_LIBC.syscall(_SYS_MOUNT_SETATTR, *arguments), "mount_setattr /")


def _show(path: str) -> None:
    """Makes a path of the old root visible at its own place."""
    old = _OLD + path
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.islink(old):
        os.symlink(os.readlink(old), path)
        return
    if os.path.isdir(old):
        os.makedirs(path, exist_ok=True)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    _mount(old, path, None, _BIND | _REC)
    _read_only(path)


def _run(task: dict[str, Any], given: str, nobody: bool) -> dict[str, Any]:
    limits = task["limits"]
    _mount("tmpfs", _BOX, "tmpfs", _NOSUID | _NODEV, f"size={limits['file_bytes']},nr_inodes=1024,mode=1777")
    read = os.memfd_create("input")
    _write_all(read, given.encode())
    os.lseek(read, 0, os.SEEK_SET)
    printed, returned = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(printed[0])
        os.close(returned[0])
        _become(task, read, printed[1], returned[1], nobody)
    for end in (read, printed[1], returned[1]):
        os.close(end)
    ended, texts = _watch(child, (printed[0], returned[0]), limits)
    for end in (printed[0], returned[0]):
        os.close(end)
    _call(_LIBC.umount2(_BOX.encode(), _DETACH), "umount")
    out, result = (bytes(text).decode(errors="replace") for text in texts)
    return {"ended": ended, "printed": out, "returned": result or None}


def _write_all(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _watch(child: int, ends: tuple[int, int], limits: dict[str, int]) -> tuple[str, tuple[bytearray, bytearray]]:
    """How a run ended, and what it said. Nothing of it is left."""
    texts = {end: bytearray() for end in ends}
    deadline = time.monotonic() + limits["seconds"] * limits["patience"]
    looked, ended, open_ends = deadline, "", set(ends)
    while not ended:
        ready, _, _ = select.select(list(open_ends), [], [], _LOOK_SECONDS if open_ends else _LAST_SECONDS)
        for end in ready:
            more = os.read(end, 1 << 16)
            texts[end] += more
            if not more:
                open_ends.discard(end)
        now = time.monotonic()
        held, processes = 0, 0
        if abs(now - looked) > _LOOK_SECONDS:
            looked = now
            held, processes = _held()
        if sum(map(len, texts.values())) > limits["output"]:
            ended = "output"
        elif now > deadline:
            ended = "time"
        elif held > limits["memory"]:
            ended = "memory"
        elif processes > limits["processes"]:
            ended = "processes"
        else:
            ended = _ended(child)
    _kill_all()
    if ended in ("finished", "failed"):
        for end in open_ends:
            while more := os.read(end, 1 << 16):
                texts[end] += more
                if len(texts[end]) > limits["output"]:
                    return "output", (bytearray(), bytearray())
    first, second = (texts[end] for end in ends)
    return ended, (first, second)


def _ended(child: int) -> str:
    """How the run ended; nothing while it goes on. Others that have ended are forgotten."""
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return "failed"
        if not process:
            return ""
        if process == child:
            code = os.waitstatus_to_exitcode(status)
            late = code in (-signal.SIGXCPU, -signal.SIGKILL)
            return "finished" if not code else "time" if late else "failed"


def _kill_all() -> None:
    """Ends every other process of the namespace."""
    while True:
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _held() -> tuple[int, int]:
    """Bytes that all other processes, and segments of shared memory, hold; and how many processes there are."""
    pages, processes = 0, 0
    for name in os.listdir("/proc"):
        if name.isdecimal() and name != "1":
            with suppress(OSError, IndexError), open(f"/proc/{name}/statm") as file:  # it may have ended
                pages += int(file.read().split()[1])
                processes += 1
    with open("/proc/sysvipc/shm") as file:
        segments = sum(int(line.split()[14]) for line in file.readlines()[1:])
    return pages * resource.getpagesize() + segments, processes


def _become(task: dict[str, Any], read: int, printed: int, returned: int, nobody: bool) -> None:
    """Turns this process into the program. Does not return."""
    limits = task["limits"]
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    kept = os.dup2(returned, 60)
    for source, target in ((read, 0), (printed, 1), (null, 2)):
        os.dup2(source, target)
    os.closerange(3, 60)
    os.closerange(61, 1 << 16)
    kept = os.dup2(60, 3)
    os.close(60)
    for name, most in (
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_CPU, limits["seconds"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(name, (most, most))
    os.chdir(_BOX)
    _drop(nobody)
    sys.stdin = os.fdopen(0, encoding="utf-8", errors="replace", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="replace", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    sys.argv = ["answer.py"]
    names: dict[str, Any] = {"__name__": "__main__", "__file__": "answer.py"}
    program, function, status = task["program"], task["function"], 1
    task.clear()
    try:
        if function is None:
            exec(compile(program, "answer.py", "exec"), names)
        else:
            names["__name__"] = "answer"
            exec(compile(program, "answer.py", "exec"), names)
            arguments = [json.loads(line) for line in sys.stdin.read().split("\n") if line.strip()]
            called = getattr(names["Solution"](), function) if "Solution" in names else names[function]
            _write_all(kept, json.dumps(called(*arguments)).encode())
        status = 0
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    finally:  # whatever was raised ends here
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(status & 255)


def _drop(nobody: bool) -> None:
    """Gives up all privileges, for good."""
    for capability in range(_MOST_CAPABILITIES):
        _LIBC.prctl(_CAPBSET_DROP, capability, 0, 0, 0)  # those that this kernel does not know are not there either
    if nobody:
        os.setgroups([])
        os.setgid(1)
        os.setuid(1)
    _LIBC.prctl(_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    _call(_LIBC.capset(ctypes.byref(header), ctypes.byref(none)), "capset")
    _call(_LIBC.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


if __name__ == "__main__":
    main()
