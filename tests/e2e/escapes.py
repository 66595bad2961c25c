"""Code that tries to get out of a sandbox, and code that tries not to stop: data for the suite.

An escape prints `ESCAPED` if it got anything that it should not have, and `refused` if it did not.
`S` holds what the outside has laid out: a canary file, listening sockets, pids.
"""

# ruff: noqa: E501

PRELUDE = """
import ctypes, os, socket, sys
S = {outside!r}
libc = ctypes.CDLL(None, use_errno=True)

def attempt(what, f):
    try:
        got = f()
    except BaseException as error:
        print("refused", what, type(error).__name__, str(error)[:80])
    else:
        print("ESCAPED", what, repr(got)[:200])

def call(number, *arguments):
    result = libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def connect(family, kind, address):
    with socket.socket(family, kind) as s:
        s.settimeout(1)
        s.connect(address)
        s.send(b"canary")
        return "sent"
"""

ESCAPES: dict[str, str] = {
    "reads no file outside": """
for path in (S["canary"], "/etc/shadow", "/root/.bashrc", "/root/.ssh", S["checkout"], "/home/x"):
    attempt(path, lambda: open(path).read())
for folder in ("/root", "/home", "/var", "/etc/ssh", "/boot", "/sys", os.path.dirname(S["canary"])):
    def listing():
        found = os.listdir(folder)
        if not [name for name in found if name not in (".pyenv", ".local", ".cache", "lib")]:
            raise OSError("empty")
        return found
    attempt(folder, listing)
""",
    "reads no parent by way of the working directory": """
attempt("..", lambda: open("../../../../../../.." + S["canary"]).read())
def by_descriptor():
    folder = os.open("/", os.O_PATH)
    os.chdir(folder)
    return open("." + S["canary"]).read()
attempt("O_PATH", by_descriptor)
os.chdir(os.environ["PWD"])
""",
    "writes no file outside": """
import site, sysconfig
places = ["/usr/x", "/usr/bin/x", "/etc/x", "/x", "/dev/x", "/bin/x", "/root/x", "/var/tmp/x",
          "/proc/x", "/sys/x", "/home/x", S["canary"] + ".new", os.path.dirname(os.__file__) + "/x",
          sysconfig.get_path("purelib") + "/x", "/proc/sys/kernel/core_pattern",
          "/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/run/x"]
for path in places:
    attempt(path, lambda: open(path, "w").write("x"))
    attempt(path + "-d", lambda: os.mkdir(path + "-d"))
""",
    "changes nothing of a file outside": """
c = S["canary"]
def quiet(what, f):
    try:
        f()
    except BaseException as error:
        print("refused", what, type(error).__name__)
    else:
        print("no error from", what)  # whether it had an effect is seen from outside
quiet("append", lambda: open(c, "a").write("x"))
quiet("truncate", lambda: os.truncate(c, 0))
quiet("unlink", lambda: os.unlink(c))
quiet("rename", lambda: os.rename(c, "mine"))
quiet("replace", lambda: os.replace("mine", c))
quiet("link", lambda: os.link(c, "mine"))
quiet("chmod", lambda: os.chmod(c, 0o777))
quiet("chmod of its folder", lambda: os.chmod(os.path.dirname(c), 0o700))
quiet("chown", lambda: os.chown(c, os.getuid(), os.getgid()))
quiet("utime", lambda: os.utime(c, (0, 0)))
quiet("xattr", lambda: os.setxattr(c, "user.x", b"x"))
for path in (os.__file__, sys.executable):
    quiet(path, lambda: os.chmod(path, 0o777))
    quiet(path, lambda: os.utime(path, (0, 0)))
""",
    "gets nothing through links": """
os.symlink(S["canary"], "link.txt")
attempt("symlink", lambda: open("link.txt").read())
attempt("symlink to /", lambda: (os.symlink("/", "root"), open("root" + S["canary"]).read()))
attempt("hard link", lambda: (os.link(S["canary"], "hard.txt"), open("hard.txt").read()))
attempt("write through", lambda: open("link.txt", "w").write("x"))
attempt("/proc/self/root", lambda: open("/proc/self/root" + S["canary"]).read())
attempt("/proc/1/root", lambda: open("/proc/1/root" + S["canary"]).read())
attempt("/proc/parent/root", lambda: open(f"/proc/{S['pid']}/root" + S["canary"]).read())
attempt("/proc/parent/cwd", lambda: os.listdir(f"/proc/{S['pid']}/cwd"))
""",
    "makes no device": """
import stat
attempt("mknod", lambda: os.mknod("disk", stat.S_IFBLK | 0o666, os.makedev(8, 0)))
attempt("mknod", lambda: os.mknod("memory", stat.S_IFCHR | 0o666, os.makedev(1, 1)))
for path in ("/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/dev/kvm", "/dev/fuse", "/dev/vsock",
             "/dev/net/tun", "/dev/uinput", "/dev/nvidia0", "/dev/dri/card0"):
    attempt(path, lambda: os.open(path, os.O_RDWR))
    attempt(path, lambda: os.open(path, os.O_RDONLY))
""",
    "has no TCP and no UDP": """
for host in ("127.0.0.1", "::1", "1.1.1.1", "169.254.169.254"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    attempt(host, lambda: connect(family, socket.SOCK_STREAM, (host, S["tcp"])))
    attempt(host, lambda: connect(family, socket.SOCK_DGRAM, (host, S["udp"])))
attempt("bind", lambda: socket.create_server(("127.0.0.1", 0)))
attempt("name", lambda: socket.getaddrinfo("example.com", 80))
attempt("http", lambda: __import__("urllib.request").request.urlopen(f"http://127.0.0.1:{S['tcp']}"))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("icmp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1))
""",
    "reaches no socket of another process": """
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    attempt("unix", lambda: connect(socket.AF_UNIX, kind, S["unix"]))
    attempt("abstract", lambda: connect(socket.AF_UNIX, kind, "\\0" + S["abstract"]))
for path in ("/run/docker.sock", "/var/run/docker.sock", "/run/dbus/system_bus_socket",
             "/tmp/.X11-unix/X0", "/run/systemd/private"):
    attempt(path, lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, path))
""",
    "has no other kind of socket": """
attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM))
attempt("netlink", lambda: socket.socket(16, socket.SOCK_RAW))
attempt("packet", lambda: socket.socket(17, socket.SOCK_RAW))
attempt("alg", lambda: socket.socket(38, socket.SOCK_SEQPACKET))
attempt("bluetooth", lambda: socket.socket(31, socket.SOCK_RAW))
attempt("xdp", lambda: socket.socket(44, socket.SOCK_RAW))
attempt("can", lambda: socket.socket(29, socket.SOCK_RAW))
attempt("a high word", lambda: call(41, ctypes.c_long((1 << 32) | 2), 1, 0))
""",
    "sees no other process": """
mine = {str(os.getpid()), "1", "2"}
def others():
    found = {n for n in os.listdir("/proc") if n.isdigit()} - mine
    if not found:
        raise OSError("none")
    return found
attempt("list", others)
for pid in (S["pid"], os.getppid()):
    for name in ("environ", "mem", "maps", "fd", "stack", "cwd"):
        path = f"/proc/{pid}/{name}"
        def read():
            data = open(path, "rb").read() if name not in ("fd", "cwd") else os.listdir(path)
            if pid != S["pid"] and b"CANARY" not in bytes(str(data), "utf-8"):
                raise OSError("nothing of the outside in it")
            return data
        attempt(path, read)
""",
    "signals and traces no other process": """
import resource, signal
pid = S["pid"]
for number in (0, signal.SIGCONT, signal.SIGTERM):
    attempt("kill", lambda: os.kill(pid, number))
    attempt("killpg", lambda: os.killpg(pid, number))
    attempt("tgkill", lambda: call(234, pid, pid, number))
    attempt("sigqueue", lambda: call(129, pid, number, ctypes.create_string_buffer(128)))
attempt("pidfd_open", lambda: os.pidfd_open(pid))
attempt("ptrace", lambda: call(101, 16, pid, 0, 0))
attempt("ptrace me", lambda: call(101, 0, 0, 0, 0))
b = ctypes.create_string_buffer(64)
attempt("process_vm_readv", lambda: call(310, pid, b, 1, b, 1, 0))
attempt("process_vm_writev", lambda: call(311, pid, b, 1, b, 1, 0))
attempt("prlimit", lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, 8)))
attempt("setpriority", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
attempt("affinity", lambda: os.sched_setaffinity(pid, {0}))
attempt("kcmp", lambda: call(312, pid, os.getpid(), 0, 0, 0))
attempt("pidfd_getfd", lambda: call(438, 0, 0, 0))
def own():
    import fcntl
    a, b = socket.socketpair()
    fcntl.fcntl(a, fcntl.F_SETOWN, pid)
    return "owner set"
attempt("F_SETOWN", own)
""",
    "gets no privilege": """
for f in (os.setuid, os.seteuid, os.setgid, os.setegid):
    attempt(f.__name__, lambda: f(0))
attempt("setgroups", lambda: os.setgroups([0]))
attempt("capset", lambda: call(126, ctypes.create_string_buffer(b"\\x22\\x05\\x08\\x20" + b"\\0" * 4),
                               ctypes.create_string_buffer(b"\\xff" * 24)))
attempt("keep capabilities", lambda: call(157, 47, 2, 0, 0, 0))
for program in ("/usr/bin/su", "/usr/bin/sudo", "/usr/bin/mount", "/usr/bin/passwd"):
    def run():
        import subprocess
        done = subprocess.run([program, "--version"], capture_output=True, stdin=-3)
        if done.returncode or program.endswith(("mount",)):
            raise OSError("harmless")
        uid = subprocess.run(["/usr/bin/id", "-u"], capture_output=True, text=True).stdout.strip()
        if uid != "0":
            raise OSError("harmless")
        return done
    attempt(program, run)
def status():
    try:
        text = open("/proc/self/status").read()
    except OSError:
        raise
    got = dict(line.split(":\\t", 1) for line in text.splitlines() if ":\\t" in line)
    ok = all(int(got[c], 16) == 0 for c in ("CapInh", "CapPrm", "CapEff", "CapAmb"))
    ok = ok and got["NoNewPrivs"] == "1" and got["Seccomp"] == "2" and "0" not in got["Uid"].split()
    if ok and got["Groups"].split() in ([], [str(os.getgid())], ["65534"]):
        raise OSError("nothing to be seen")
    return text
attempt("status", status)
""",
    "makes no name space and no mount": """
NEW = dict(ns=0x20000, cgroup=0x2000000, uts=0x4000000, ipc=0x8000000, user=0x10000000,
           pid=0x20000000, net=0x40000000)
for name, flag in NEW.items():
    attempt("unshare " + name, lambda: call(272, flag))
    def clone():
        pid = call(56, flag | 17, 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
        return pid
    attempt("clone " + name, clone)
    attempt("clone with user " + name, lambda: call(56, flag | 0x10000000 | 17, 0, 0, 0, 0))
arguments = ctypes.create_string_buffer((0x10000000).to_bytes(8, "little") + bytes(80))
attempt("clone3", lambda: call(435, arguments, 88))
attempt("setns", lambda: call(308, 0, 0))
attempt("mount", lambda: call(165, b"none", b"/tmp", b"tmpfs", 0, 0))
attempt("bind", lambda: call(165, b"/", b"/tmp", 0, 4096, 0))
attempt("remount", lambda: call(165, b"none", b"/usr", 0, 32 | 4096, 0))
attempt("umount", lambda: call(166, b"/proc/sys", 2))
attempt("umount", lambda: call(166, b"/", 2))
attempt("chroot", lambda: os.chroot("."))
attempt("pivot_root", lambda: call(155, b".", b"."))
for number in (428, 429, 430, 431, 432, 433, 442, 457, 458):
    attempt(f"mount call {number}", lambda: call(number, 0, 0, 0, 0, 0))
""",
    "reaches no odd corner of the kernel": """
for name, number in dict(bpf=321, perf_event_open=298, userfaultfd=323, io_uring_setup=425,
        io_uring_enter=426, io_uring_register=427, keyctl=250, add_key=248, request_key=249,
        kexec_load=246, init_module=175, finit_module=313, delete_module=176, reboot=169, swapon=167,
        acct=163, syslog=103, iopl=172, ioperm=173, modify_ldt=154, personality=135, quotactl=179,
        name_to_handle_at=303, open_by_handle_at=304, fanotify_init=300, settimeofday=164,
        clock_settime=227, sethostname=170, memfd_secret=447, process_madvise=440, vhangup=153,
        move_pages=279, newest=470, future=500, x32_getpid=0x40000000 + 39,
        x32_ptrace=0x40000000 + 521).items():
    attempt(name, lambda: call(number, 0, 0, 0, 0, 0))
attempt("TIOCSTI", lambda: call(16, 0, 0x5412, b"x"))
attempt("high bits of an ioctl", lambda: call(16, 0, ctypes.c_long((1 << 32) | 0x5412), b"x"))
attempt("life after the parent", lambda: call(157, 1, 0, 0, 0, 0))
attempt("no filter any more", lambda: call(157, 22, 0, 0, 0, 0))
""",
    "cannot make 32-bit system calls": """
import mmap
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20 (getpid); int 0x80; ret
address = ctypes.addressof(ctypes.c_char.from_buffer(code))
print("tried", flush=True)
got = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
print("ESCAPED int 0x80", got)
""",
    "inherits no file and no environment": """
import stat
def fd_is_open(number):
    try:
        return bool(os.fstat(number))
    except OSError:
        return False
found = []
there = [n for n in range(3, 256) if fd_is_open(n)]
for number in there:
    try:
        about, flags = os.fstat(number), __import__("fcntl").fcntl(number, 3)
        target = os.readlink(f"/proc/self/fd/{number}") if os.path.exists("/proc/self/fd") else "?"
    except OSError:
        continue
    if stat.S_ISFIFO(about.st_mode):
        continue  # its lines to Puna
    if stat.S_ISDIR(about.st_mode) and flags & os.O_PATH:
        attempt("..", lambda: open(os.open("..", os.O_RDONLY, dir_fd=number)))
        attempt("out", lambda: open(os.open("../../../../../../../.." + S["canary"], os.O_RDONLY,
                                            dir_fd=number)).read())
        continue  # a library's folder, to read from
    if target == "/dev/null" or os.fstat(number).st_rdev == os.makedev(1, 3):
        continue  # its standard input
    found.append((number, target))
def environment():
    text = str(dict(os.environ))
    try:
        text += open("/proc/self/environ").read()
    except OSError:
        pass
    if "CANARY" not in text:
        raise OSError("nothing")
    return text
attempt("environment", environment)
def files():
    if not found:
        raise OSError("none")
    return found
attempt("files", files)
attempt("tty", lambda: os.open("/dev/tty", os.O_RDWR))
""",
    "cannot raise its limits": """
import resource
for name in ("AS", "FSIZE", "NPROC", "NOFILE", "CORE", "MEMLOCK"):
    which = getattr(resource, "RLIMIT_" + name)
    hard = resource.getrlimit(which)[1]
    attempt(name, lambda: resource.setrlimit(which, (hard + 1, hard + 1)))
    attempt(name, lambda: resource.setrlimit(which, (-1, -1)))
def unlimited():
    free = [n for n in ("AS", "FSIZE", "NPROC", "NOFILE", "CORE", "MEMLOCK")
            if resource.getrlimit(getattr(resource, "RLIMIT_" + n))[1] == -1]
    if not free:
        raise OSError("none")
    return free
attempt("unlimited", unlimited)
attempt("nice", lambda: os.nice(-10))
""",
    "cannot take more memory than it may have": """
attempt("bytearray", lambda: len(bytearray(4 << 30)))
def shared():
    import mmap
    m = mmap.mmap(-1, 4 << 30)
    return len(m)
attempt("shared memory", shared)
attempt("string", lambda: len("x" * (4 << 30)))
attempt("list", lambda: len([0] * (1 << 30)))
attempt("power", lambda: 1 << (1 << 36))
""",
    "cannot fill the disk": """
def one():
    with open("big", "wb") as file:
        for _ in range(600):
            file.write(bytes(1 << 20))
attempt("one file", one)
os.unlink("big")
""",
    "cannot write to its own code": """
attempt("library", lambda: open(os.__file__, "a"))
attempt("program", lambda: open(sys.executable, "a"))
attempt("/proc/self/exe", lambda: open("/proc/self/exe", "r+b"))
""",
}

FORGERIES: dict[str, str] = {
    "a flood of nothing known": "os.write(control, bytes(1 << 20))",
    "an endless frame": "os.write(control, b'F\\xff\\xff\\xff\\xff' + b'x' * 100)",
    "a flood of files": "\n".join(
        [
            "frame = b'F' + (2 + 1 + 9).to_bytes(4, 'big') + (1).to_bytes(2, 'big') + b'a' + b'x'*9",
            "for _ in range(100000): os.write(control, frame)",
        ]
    ),
    "a flood of large files": "\n".join(
        [
            "frame = b'F' + (3 + 900000).to_bytes(4, 'big') + b'\\0\\1a' + b'x' * 900000",
            "for _ in range(1000): os.write(control, frame)",
        ]
    ),
    "a name longer than its frame": "os.write(control, b'F\\0\\0\\0\\4\\xff\\xffab')",
    "an empty file frame": "os.write(control, b'F\\0\\0\\0\\0')",
    "a flood of notes": "for _ in range(10**7): os.write(control, b'N\\0\\0\\0\\5hello')",
    "a second ready": "os.write(control, b'R\\0\\0\\0\\0')",
}
"""What is written to the line to Puna: each must cost the interpreter its life, and Puna nothing."""

FIND_CONTROL = """
import os, stat
def lines():
    for number in range(3, 64):
        try:
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                yield number
        except OSError:
            pass
import fcntl
writers = [n for n in lines() if fcntl.fcntl(n, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY]
same = {os.fstat(1).st_ino, os.fstat(2).st_ino}
control = next(n for n in writers if os.fstat(n).st_ino not in same)
"""

# Ways not to stop. Each is run with a short limit: afterwards nothing of it may be left, and the
# next call must work.
WAYS: dict[str, str] = {
    "while": "while True: pass",
    "while with a catch": "while True:\n    try:\n        while True: pass\n    except: pass",
    "for": "import itertools\nfor _ in itertools.count(): pass",
    "sum in C": "import itertools; sum(itertools.count())",
    "list in C": "import itertools; max(itertools.repeat(1))",
    "deque in C": "import itertools, collections; collections.deque(itertools.count(), maxlen=0)",
    "any in C": "import itertools; any(itertools.repeat(0))",
    "in": "import itertools; -1 in itertools.count()",
    "big power": "len(str(pow(7, 10**8)))",
    "big power in the result": "7 ** (10 ** 8)",
    "big product": "import math; math.factorial(10**7)",
    "big string of an int": "import sys; sys.set_int_max_str_digits(0); str(1 << 10**8)",
    "modular power": "pow(3, (1 << 200000) - 1, (1 << 200000) - 3)",
    "regular expression": "import re; re.match(r'(a+)+$', 'a' * 64 + 'b')",
    "regular expression, nested": "import re; re.match(r'(x+x+)+y', 'x' * 100)",
    "sort": "import itertools; sorted(itertools.islice(itertools.count(), 10**9), key=lambda x: -x)",
    "hash": "import hashlib; hashlib.pbkdf2_hmac('sha512', b'x', b'x', 10**9)",
    "scrypt": "import hashlib\nwhile 1: hashlib.scrypt(b'x', salt=b'x', n=2**13, r=8, p=8)",
    "compress": "import lzma\nwhile 1: lzma.compress(b'abc' * 10**6)",
    "decimal": "from decimal import *; getcontext().prec = 10**8; Decimal(2).sqrt()",
    "fractions": "from fractions import Fraction\nx = Fraction(1)\nwhile 1: x = x * x + Fraction(1, 3)",
    "sleep": "import time; time.sleep(1000)",
    "sleep in pieces": "import time\nwhile True: time.sleep(0.001)",
    "sleep, all caught": "import time\nwhile 1:\n  try: time.sleep(99)\n  except BaseException: pass",
    "select": "import select; select.select([], [], [])",
    "pause": "import signal; signal.pause()",
    "sigwait": "import signal; signal.sigwait({signal.SIGUSR1})",
    "pipe": "import os; r, w = os.pipe(); os.read(r, 1)",
    "pipe, full": "import os; r, w = os.pipe()\nwhile 1: os.write(w, bytes(4096))",
    "socket pair": "import socket; a, b = socket.socketpair(); a.recv(1)",
    "fifo": "import os; os.mkfifo('f'); open('f')",
    "poll": "import select; select.poll().poll()",
    "epoll": "import select; select.epoll().poll()",
    "lock": "import threading; l = threading.Lock(); l.acquire(); l.acquire()",
    "deadlock": (
        "import threading, time\na, b = threading.Lock(), threading.Lock()\n"
        "def f(x, y):\n  with x:\n    time.sleep(.05)\n    with y: pass\n"
        "t = [threading.Thread(target=f, args=p) for p in ((a, b), (b, a))]\n"
        "[x.start() for x in t]; [x.join() for x in t]"
    ),
    "condition": "import threading; c = threading.Condition(); c.acquire(); c.wait()",
    "event": "import threading; threading.Event().wait()",
    "barrier": "import threading; threading.Barrier(2).wait()",
    "queue": "import queue; queue.Queue().get()",
    "semaphore": "import threading; threading.Semaphore(0).acquire()",
    "join of oneself": (
        "import threading, time\nt = threading.Thread(target=time.sleep, args=(999,))\n"
        "t.start(); t.join()"
    ),
    "flock": (
        "import fcntl, os\na = open('l', 'w'); b = open('l', 'w')\n"
        "fcntl.flock(a, fcntl.LOCK_EX); fcntl.flock(b, fcntl.LOCK_EX)"
    ),
    "asyncio": "import asyncio; asyncio.run(asyncio.sleep(1000))",
    "asyncio for ever": "import asyncio; asyncio.new_event_loop().run_forever()",
    "asyncio without await": "import asyncio\nasync def f():\n  while 1: pass\nasyncio.run(f())",
    "future": "import concurrent.futures as c; c.Future().result()",
    "generator": "def g():\n  while 1: yield\nlist(x for x in g() if x)",
    "iterator protocol": (
        "class I:\n  def __iter__(s): return s\n  def __next__(s): return 0\nset(I())"
    ),
    "signals ignored": (
        "import signal\nfor s in range(1, 65):\n  try: signal.signal(s, signal.SIG_IGN)\n"
        "  except Exception: pass\nwhile 1: pass"
    ),
    "signals handled": (
        "import signal\nfor s in range(1, 65):\n  try: signal.signal(s, lambda *a: None)\n"
        "  except Exception: pass\nwhile 1: pass"
    ),
    "signals blocked": (
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile 1: pass"
    ),
    "alarm again and again": (
        "import signal\nsignal.signal(signal.SIGALRM, lambda *a: signal.alarm(1))\n"
        "signal.alarm(1)\nwhile 1: signal.pause()"
    ),
    "stopped": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)\nwhile 1: pass",
    "stopped by SIGTSTP": "import os, signal; os.kill(os.getpid(), signal.SIGTSTP)\nwhile 1: pass",
    "thread that spins": (
        "import threading\ndef f():\n  while 1: pass\nt = threading.Thread(target=f); t.start(); t.join()"
    ),
    "daemon thread left behind": (
        "import threading\ndef f():\n  while 1: pass\n"
        "threading.Thread(target=f, daemon=True).start()"
    ),
    "thread left behind": "import threading, time; threading.Thread(target=time.sleep, args=(99,)).start()",
    "thread that prints": (
        "import threading\ndef f():\n  while 1: print('x' * 100)\n"
        "threading.Thread(target=f, daemon=True).start()"
    ),
    "thread that writes to the line": (
        "import threading, os\ndef f():\n  while 1: os.write(1, b'x' * 4096)\n"
        "threading.Thread(target=f, daemon=True).start()"
    ),
    "many threads": (
        "import threading\ndef f():\n  while 1: pass\n"
        "for _ in range(1000): threading.Thread(target=f, daemon=True).start()\nwhile 1: pass"
    ),
    "threads that make threads": (
        "import threading\ndef f():\n  while 1:\n    try: threading.Thread(target=f).start()\n"
        "    except RuntimeError: pass\nf()"
    ),
    "timer": "import threading\ndef f(): threading.Timer(.01, f).start()\nf()\nwhile 1: pass",
    "pool": (
        "from concurrent.futures import *\nimport time\n"
        "with ThreadPoolExecutor(9) as p: list(p.map(time.sleep, [999] * 99))"
    ),
    "thread on exit": (
        "import threading\ndef f():\n  while 1: pass\nthreading._register_atexit(f)\nraise SystemExit"
    ),
    "atexit": ("import atexit, time\natexit.register(time.sleep, 999)\nimport os, sys\nsys.exit()"),
    "exit": "import os; os._exit(0)",
    "abort": "import os; os.abort()",
    "killed by itself": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\nwhile 1: pass",
    "kill all": "import os, signal; os.kill(-1, signal.SIGKILL)\nwhile 1: pass",
    "kill the first": "import os, signal; os.kill(1, signal.SIGKILL)\nwhile 1: pass",
    "segmentation fault": "import ctypes; ctypes.string_at(0)",
    "stack overflow in C": (
        "import ctypes\nF = ctypes.CFUNCTYPE(ctypes.c_int)\n"
        "def f():\n  return g()\ng = F(f)\nimport sys; sys.setrecursionlimit(10**9); g()"
    ),
    "destructor": "class D:\n  def __del__(s):\n    while 1: pass\nd = D()\ndel d",
    "destructor at the end": "class D:\n  def __del__(s):\n    while 1: pass\nd = D()\nraise SystemExit",
    "repr": "class R:\n  def __repr__(s):\n    while 1: pass\nR()",
    "repr that is huge": "class R:\n  def __repr__(s): return 'x' * 10**9\nR()",
    "str of an error": "class E(Exception):\n  def __str__(s):\n    while 1: pass\nraise E",
    "traceback": (
        "class E(Exception):\n  @property\n  def __notes__(s):\n    while 1: pass\nraise E"
    ),
    "equality": "class E:\n  def __eq__(s, o):\n    while 1: pass\nE() == E()",
    "hash method": "class H:\n  def __hash__(s):\n    while 1: pass\n{H()}",
    "metaclass": "class M(type):\n  def __new__(*a):\n    while 1: pass\nclass A(metaclass=M): pass",
    "display hook": "import sys\ndef f(x):\n  while 1: pass\nsys.displayhook = f\n1",
    "trace": "import sys\ndef f(*a):\n  while 1: pass\nsys.settrace(f)\n(lambda: 1)()",
    "import hook": (
        "import sys\nclass F:\n  def find_spec(*a):\n    while 1: pass\n"
        "sys.meta_path.insert(0, F)\nimport nothing_of_the_kind"
    ),
    "an output that never ends": (
        "class W:\n  def write(s, x):\n    while 1: pass\n  def flush(s):\n    while 1: pass\n"
        "import sys\nsys.stdout = W(); print(1)"
    ),
    "flush at the end": (
        "class W:\n  def write(s, x): pass\n  def flush(s):\n    while 1: pass\n"
        "import sys\nsys.stdout = W()"
    ),
    "recursion": "def f():\n  try: f()\n  finally: f()\nf()",
    "recursion without limit": (
        "import sys; sys.setrecursionlimit(10**9)\ndef f(n): return [f(n + 1), 0]\nf(0)"
    ),
    "nested eval": "def f(): exec('f()')\nf()",
    "Ackermann": (
        "def a(m, n): return n + 1 if not m else a(m - 1, 1) if not n else a(m - 1, a(m, n - 1))\n"
        "import sys, threading; sys.setrecursionlimit(10**6); threading.stack_size(2**28)\n"
        "t = threading.Thread(target=a, args=(4, 2)); t.start(); t.join()"
    ),
    "fibonacci": "def f(n): return n if n < 2 else f(n - 1) + f(n - 2)\nf(90)",
    "compile": "while 1: compile('x = 1\\n' * 10000, 'x', 'exec')",
    "deep source": "compile('(' * 90 + ')' * 90, 'x', 'eval')\nwhile 1: compile('[' * 80 + ']' * 80, 'x', 'eval')",
    "json": "import json\nl = []\nl.append(l)\nwhile 1:\n  try: json.dumps(l)\n  except ValueError: pass",
    "output": "while True: print('x' * 1000)",
    "error output": "import sys\nwhile True: sys.stderr.write('x' * 1000)",
    "output of bytes": "import os\nwhile True: os.write(1, bytes(65536))",
    "standard input": "import sys\nwhile True: sys.stdin.read()",
    "standard input as a file": "import os\nwhile True: os.read(0, 1)",
    "urandom": "import os\nwhile True: os.urandom(1 << 20)",
    "endless device": "open('/dev/zero', 'rb').read()",
    "files for ever": "import itertools\nfor i in itertools.count(): open(str(i % 999), 'w').write('x')",
    "folders for ever": "import os\nwhile 1:\n  os.mkdir('d')\n  os.chdir('d')",
    "a file for ever": "f = open('f', 'wb')\nwhile 1:\n  f.seek(0)\n  f.write(bytes(1 << 20))",
    "memory for ever": "l = []\nwhile 1:\n  try: l.append(bytearray(1 << 20))\n  except MemoryError: pass",
    "garbage": "while 1:\n  a = []\n  a.append(a)",
    "its line to Puna closed": "import os; os.closerange(3, 256)\nwhile 1: pass",
    "all lines closed": "import os; os.closerange(0, 256)\nwhile 1: pass",
    "its request read away": (
        "import os, stat, fcntl\nfor n in range(3, 64):\n  try:\n"
        "    if stat.S_ISFIFO(os.fstat(n).st_mode) and not fcntl.fcntl(n, 3) & 3: os.read(n, 1)\n"
        "  except OSError: pass"
    ),
}

PROCESS_WAYS: dict[str, str] = {
    "fork that spins": "import os\nif os.fork() == 0:\n  while 1: pass",
    "fork that sleeps": "import os, time\nif os.fork() == 0: time.sleep(999)",
    "fork, waited for": "import os, time\nif os.fork() == 0: time.sleep(999)\nos.wait()",
    "double fork": "import os, time\nif os.fork() == 0:\n  if os.fork() == 0: time.sleep(999)\n  os._exit(0)",
    "daemon": (
        "import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n"
        "    os.closerange(0, 256); os.chdir('/'); time.sleep(999)\n  os._exit(0)"
    ),
    "daemon that ignores all": (
        "import os, signal\nif os.fork() == 0:\n  os.setsid()\n  for s in range(1, 65):\n"
        "    try: signal.signal(s, signal.SIG_IGN)\n    except Exception: pass\n  while 1: pass"
    ),
    "daemon that forks on": (
        "import os\nif os.fork() == 0:\n  while 1:\n    os.setsid() if os.getpid() != os.getpgid(0) else 0\n"
        "    if os.fork(): os._exit(0)"
    ),
    "fork bomb": "import os\nwhile 1:\n  try: os.fork()\n  except OSError: pass",
    "fork bomb that sleeps": "import os, time\nwhile 1:\n  try:\n    if os.fork() == 0: time.sleep(9)\n  except OSError: pass",
    "fork bomb in the shell": "import subprocess; subprocess.run(['sh', '-c', ':() { : | : & }; : ; sleep 99'])",
    "exec": "import os; os.execv('/bin/sleep', ['sleep', '999'])",
    "exec of a daemon": "import subprocess; subprocess.Popen(['setsid', 'sleep', '999'])",
    "child": "import subprocess; subprocess.run(['sleep', '999'])",
    "child left behind": "import subprocess; subprocess.Popen(['sleep', '999'])",
    "child that ignores signals": (
        "import subprocess; subprocess.run(['sh', '-c', 'trap \"\" TERM INT HUP; while :; do :; done'])"
    ),
    "nohup": "import os; os.system('nohup sleep 999 >/dev/null 2>&1 &')",
    "shell loop": "import os; os.system('while :; do :; done')",
    "stopped child": (
        "import os, signal, time\np = os.fork()\nif p == 0:\n  os.kill(os.getpid(), signal.SIGSTOP)\n"
        "  while 1: pass\nos.waitpid(p, 0)"
    ),
    "yes": "import subprocess; subprocess.run(['yes'])",
    "yes, left behind": "import subprocess; subprocess.Popen(['yes'])",
    "cat": "import subprocess; subprocess.run(['cat'], stdin=subprocess.PIPE and None)\nimport os; r, w = os.pipe(); os.read(r, 1)",
    "zombies": "import os, time\nfor _ in range(20):\n  if os.fork() == 0: os._exit(0)\ntime.sleep(99)",
    "multiprocessing": "import multiprocessing as m, time\np = m.Process(target=time.sleep, args=(999,)); p.start(); p.join()",
    "vfork that dies late": "import subprocess, os\nsubprocess.Popen(['sh', '-c', '(sleep 999 &) ; exit 0']).wait()",
    "the parent ends, the child speaks on": "import os\nif os.fork():\n  os._exit(0)\nwhile 1: print('x')",
}
"""Ways that need processes of their own: where those are refused, they end at once."""

MONTY_WAYS = (
    "while", "while with a catch", "big power", "big power in the result", "sleep", "recursion",
    "recursion without limit", "fibonacci", "generator", "output", "memory for ever", "repr",
    "iterator protocol", "regular expression", "asyncio",
)  # fmt: skip
