/* `--init`: process 1 of a container, in place of the command.
 *
 *     init [--] COMMAND [ARGUMENT...]
 *
 * Runs the command in a process group of its own (the terminal's foreground one, if there is a
 * terminal), passes signals on to it, reaps what is orphaned, and exits as the command did:
 * its status, 128+n for a signal, 127 not found, 126 not executable. Static, without libc. */
#include "raw.h"

enum { SIGNALS = 64, CHLD = 17, TTOU = 22, NOT_FOUND = 127, NOT_EXECUTABLE = 126 };
enum { ENOENT_ = 2, EACCES_ = 13, ENOTDIR_ = 20, TIOCSPGRP_ = 0x5410, PATH_BYTES = 4096 };

ENTRY_POINT

static int has_slash(const char *text)
{
    for (; *text; text++)
        if (*text == '/')
            return 1;
    return 0;
}

static const char *search_path(char **env)
{
    for (; *env; env++) {
        const char *e = *env, *name = "PATH=";
        while (*name && *e == *name)
            e++, name++;
        if (!*name)
            return e;
    }
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

/* execvp(3): go on after ENOENT and ENOTDIR, remember EACCES. Returns the errno. */
static int exec_command(char **argv, char **env)
{
    char place[PATH_BYTES];
    int worst = ENOENT_;
    if (has_slash(argv[0]))
        return (int)-sys(__NR_execve, argv[0], argv, env);
    for (const char *path = search_path(env);; path++) {
        size_t used = 0;
        for (; *path && *path != ':'; path++)
            if (used < sizeof place - 1)
                place[used++] = *path;
        if (used)
            place[used < sizeof place - 1 ? used++ : used] = '/';
        for (const char *c = argv[0]; *c && used < sizeof place - 1; c++)
            place[used++] = *c;
        place[used] = 0;
        int number = (int)-sys(__NR_execve, place, argv, env);
        if (number == EACCES_)
            worst = number;
        else if (number != ENOENT_ && number != ENOTDIR_)
            return number;
        if (!*path)
            return worst;
    }
}

static void run_command(char **argv, char **env)
{
    int32_t self = (int32_t)sys(__NR_getpid, 0, 0, 0);
    uint64_t none = 0, blocked = 1ull << (TTOU - 1);
    sys(__NR_setpgid, 0, 0, 0);
    /* SIGTTOU must not stop a background group that makes itself the foreground one. */
    sys6(__NR_rt_sigprocmask, 2, (long)&blocked, 0, 8, 0, 0);
    sys(__NR_ioctl, 0, TIOCSPGRP_, &self);
    sys6(__NR_rt_sigprocmask, 2, (long)&none, 0, 8, 0, 0);
    int number = exec_command(argv, env);
    sys(__NR_exit_group, number == ENOENT_ ? NOT_FOUND : NOT_EXECUTABLE, 0, 0);
}

static void reap(int command)
{
    int status;
    for (;;) {
        long pid = sys6(__NR_wait4, -1, (long)&status, 1 /* WNOHANG */, 0, 0, 0);
        if (pid <= 0)
            return;
        if (pid == command)
            sys(__NR_exit_group, status & 127 ? 128 + (status & 127) : status >> 8 & 255, 0, 0);
    }
}

__attribute__((used, noreturn)) void start(long *stack)
{
    char **argv = (char **)(stack + 2), **env = (char **)(stack + 2 + stack[0]);
    uint64_t all = ~0ull;
    if (argv[0] && argv[0][0] == '-' && argv[0][1] == '-' && !argv[0][2])
        argv++;
    if (!argv[0])
        sys(__NR_exit_group, NOT_FOUND, 0, 0);
    sys6(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)&all, 0, 8, 0, 0);
    int command = (int)sys6(__NR_clone, CHLD, 0, 0, 0, 0, 0);
    if (command == 0)
        run_command(argv, env);
    if (command < 0)
        sys(__NR_exit_group, NOT_EXECUTABLE, 0, 0);
    for (;;) {
        int signal = (int)sys6(__NR_rt_sigtimedwait, (long)&all, 0, 0, 8, 0, 0);
        if (signal == CHLD)
            reap(command);
        else if (signal > 0)
            sys(__NR_kill, command, signal, 0);
    }
}
