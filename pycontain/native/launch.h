/* Start one of our commands: what the scripts in bin/ do, without a shell and a libc.
 *
 * The program lies in BIN beside a python3. SOURCE, which the build of an editable installation
 * defines, is the directory the package is imported from; without it the package is in
 * BIN/../lib/python3.N/site-packages (or dist-packages), and that version's interpreter is taken. */
#ifndef PYCONTAIN_LAUNCH_H
#define PYCONTAIN_LAUNCH_H

#include "raw.h"

#ifndef SOURCE
#define SOURCE ""
#endif

enum { PATH_BYTES = 4096, OUR_FAILURE = 125 };
enum { AT_FDCWD_ = -100, O_RDONLY_ = 0, O_CLOEXEC_ = 02000000, X_OK_ = 1, F_OK_ = 0 };
#if defined(__aarch64__)
enum { O_NOFOLLOW_ = 0100000 };
#else
enum { O_NOFOLLOW_ = 0400000 };
#endif

struct place {
    char program[PATH_BYTES];
    char python[PATH_BYTES];
    char source[PATH_BYTES];
};

/* A text under construction; `full` once something did not fit. */
struct text {
    char *at;
    char *end;
    int full;
};

static size_t length_of(const char *s)
{
    size_t n = 0;
    while (s[n])
        n++;
    return n;
}

static int starts_with(const char *s, const char *head)
{
    while (*head && *s == *head)
        s++, head++;
    return !*head;
}

static int ends_with(const char *s, const char *tail)
{
    size_t all = length_of(s), part = length_of(tail);
    return all >= part && starts_with(s + all - part, tail);
}

static void add(struct text *to, const char *s)
{
    for (; *s; s++) {
        if (to->at + 1 >= to->end)
            to->full = 1;
        else
            *to->at++ = *s;
    }
    *to->at = 0;
}

/* Put up to four strings together; 0 when they do not fit. */
static int join(char *into, size_t size, const char *a, const char *b, const char *c, const char *d)
{
    struct text path = {into, into + size, 0};
    add(&path, a);
    add(&path, b);
    add(&path, c);
    add(&path, d);
    return !path.full;
}

static int exists(const char *path, int how)
{
    return !sys(__NR_faccessat, AT_FDCWD_, path, how);
}

__attribute__((noreturn)) static void fail(const char *why, const char *what)
{
    char line[PATH_BYTES + 256];
    join(line, sizeof line - 1, "pycontain: ", why, what, "\n");
    sys(__NR_write, 2, line, length_of(line));
    sys(__NR_exit_group, OUR_FAILURE, 0, 0);
    __builtin_unreachable();
}

/* The first entry of a directory that begins with `head`, ends with `tail` and has `inside` in it;
 * leaves its path in `found`. */
static int find(const char *directory, const char *head, const char *tail, const char *inside,
                char *found)
{
    struct entry {
        uint64_t inode;
        int64_t offset;
        uint16_t size;
        uint8_t type;
        char name[];
    };
    char entries[8192], path[PATH_BYTES];
    long size, fd = sys6(__NR_openat, AT_FDCWD_, (long)directory, O_RDONLY_ | O_CLOEXEC_, 0, 0, 0);
    int done = 0;
    if (fd < 0)
        return 0;
    while (!done && (size = sys(__NR_getdents64, fd, entries, sizeof entries)) > 0)
        for (long at = 0; !done && at < size; at += ((struct entry *)(entries + at))->size) {
            const char *name = ((struct entry *)(entries + at))->name;
            done = starts_with(name, head) && ends_with(name, tail) &&
                   join(found, PATH_BYTES, directory, "/", name, "") &&
                   join(path, sizeof path, found, inside, "", "") && exists(path, F_OK_);
        }
    sys(__NR_close, fd, 0, 0);
    return done;
}

/* Where the package and its interpreter are, for a program in `bin`. */
static int find_installed(const char *bin, struct place *place)
{
    static const char *const kinds[] = {"/site-packages", "/dist-packages"};
    char lib[PATH_BYTES], version[PATH_BYTES], inside[64];
    if (!join(lib, sizeof lib, bin, "/../lib", "", ""))
        return 0;
    for (size_t n = 0; n < sizeof kinds / sizeof *kinds; n++) {
        join(inside, sizeof inside, kinds[n], "/pycontain/__init__.py", "", "");
        if (find(lib, "python3", "", inside, version))
            return join(place->source, PATH_BYTES, version, kinds[n], "", "") &&
                   join(place->python, PATH_BYTES, bin, version + length_of(lib), "", "");
    }
    return 0;
}

/* Fills in `place`, or ends the program. */
static void find_place(struct place *place)
{
    char self[PATH_BYTES];
    long size = sys6(__NR_readlinkat, AT_FDCWD_, (long)"/proc/self/exe",
                     (long)place->program, PATH_BYTES - 1, 0, 0);
    char *slash;
    if (size <= 0)
        fail("read link /proc/self/exe: is /proc mounted?", "");
    place->program[size] = 0;
    for (slash = place->program + size; slash > place->program && *slash != '/'; slash--)
        ;
    *slash = 0;
    join(self, sizeof self, place->program, "", "", "");
    *slash = '/';
    if (SOURCE[0]) {
        join(place->source, PATH_BYTES, SOURCE, "", "", "");
        if (!join(place->python, PATH_BYTES, self, "/python3", "", ""))
            fail("path is too long: ", self);
    } else if (!find_installed(self, place))
        fail("no lib/python3*/site-packages/pycontain beside ", self);
    if (!exists(place->python, X_OK_)) {
        /* Installed for the system's Python, whose directory is another. */
        const char *name = place->python + length_of(place->python);
        while (name[-1] != '/')
            name--;
        char base[64];
        if (join(base, sizeof base, "/usr/bin/", name, "", ""))
            join(place->python, PATH_BYTES, base, "", "", "");
    }
}

/* Ctrl-C waits until our first line runs: Python would answer it with a traceback from its own start. */
static void hold_interrupt(void)
{
    uint64_t interrupt = 1 << (2 /* SIGINT */ - 1);
    sys6(__NR_rt_sigprocmask, 0 /* SIG_BLOCK */, (long)&interrupt, 0, sizeof interrupt, 0, 0);
}

/* What Python is to do: import the module ENTRY and call its FUNCTION with the path of the dump and
 * of this program. */
#define ENTER(ENTRY, FUNCTION)                                                                    \
    "import _signal, sys\n"                                                                       \
    "if _signal.getsignal(2) is _signal.default_int_handler: _signal.signal(2, 0)\n"              \
    "_signal.pthread_sigmask(1, (2,))\n"                                                          \
    "sys.path.insert(0, sys.argv.pop(1))\n"                                                       \
    "from " ENTRY " import " FUNCTION " as go\n"                                                  \
    "go(sys.argv.pop(1), sys.argv.pop(1))"

/* Go on in Python: `code` finds where package, dump and this program are as its first arguments. */
__attribute__((noreturn)) static void start_python(const struct place *place, const char *code,
                                                   const char *dump, long argc, char **argv,
                                                   char **env)
{
    const char *args[argc + 8];
    long n = 0;
    args[n++] = place->python;
    args[n++] = "-I";
    args[n++] = "-S";
    args[n++] = "-c";
    args[n++] = code;
    args[n++] = place->source;
    args[n++] = dump;
    args[n++] = place->program;
    for (long word = 1; word < argc; word++)
        args[n++] = argv[word];
    args[n] = 0;
    hold_interrupt();
    sys(__NR_execve, place->python, args, env);
    fail("cannot start ", place->python);
}

#endif
