/* The stub: the first program a container's init process becomes.
 *
 * argv[1] is the fd of the memory file that holds the program; the stub maps it, carries out the
 * ops after the `execstub` op and ends in execve. /proc/self/exe therefore never shows the host's
 * interpreter inside the container (CVE-2019-5736). Static, without libc. */
#include "loop.h"

ENTRY_POINT

__attribute__((used, noreturn)) void start(long *stack)
{
    long fd = 0, size, where;
    /* No other process of the container may trace us or open our fds before the command runs. */
    sys(__NR_prctl, 4 /* PR_SET_DUMPABLE */, 0, 0);
    for (const char *digit = stack[0] > 1 ? (char *)stack[2] : ""; *digit; digit++)
        fd = fd * 10 + (*digit - '0');
    size = sys(__NR_lseek, fd, 0, 2 /* SEEK_END */);
    where = sys6(__NR_mmap, 0, size, 3 /* READ|WRITE */, 1 /* MAP_SHARED */, fd, 0);
    struct image *m = (struct image *)where;
    if (size < (long)sizeof *m || where < 0 || m->magic != MAGIC) {
        static const char why[] = "pycontain: the container's command is /proc/self/exe or the like,"
                                  " which is no program of the image\n";
        sys(__NR_write, 2, (long)why, sizeof why - 1);
        sys(__NR_exit_group, 126, 0, 0);
    }
    sys(__NR_close, fd, 0, 0);
    keep_open(m->pipe, 0);
    const struct op *op = &m->ops[m->exec_index];
    for (int n = 1; n < ARGS; n++)
        if (argument(m, op, n) >= 0)
            keep_open((int)argument(m, op, n), 0);
    relocate(m);
    m->state = STATE_STUB;
    run(m, (unsigned)m->exec_index + 1);
    __builtin_unreachable();
}
