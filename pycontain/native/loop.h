/* The loop that carries a program out: shared by core.c (clone3 child) and stub.c.
 *
 * The layout is written by syscalls/encode.py and drawn there. Raw system calls only: no libc, no
 * memory allocation, no errno. Whoever runs the loop may share its memory with the parent. */
#ifndef PYCONTAIN_LOOP_H
#define PYCONTAIN_LOOP_H

#include "raw.h"

enum { IMMEDIATE, DATA, REGISTER };               /* types of an argument, 4 bits each */
enum { CALL, EXEC, STORE, STUB };                 /* kinds of an op */
enum { STATE_NEW, STATE_CHILD, STATE_STUB, STATE_FAILED, STATE_DONE };
enum { MAGIC = 0x31637970, ARGS = 6, OKS = 4, ANY = -1, NO_DATA_YET = 32 /* EPIPE */ };

struct op {
    uint32_t nr, kind, types;
    int32_t into;
    uint64_t args[ARGS];
    int32_t on_error, on_success;
    int64_t minimum;
    int16_t ok[OKS];
};

struct image {
    uint32_t magic, n_ops;
    int32_t exec_index;
    uint32_t n_relocs;
    uint64_t base;                                /* what the pointers in the data block add up to */
    uint32_t relocs, times, data, size;           /* offsets; times is 0 without a timeline */
    int32_t memfd, pipe;
    uint32_t state, op;
    int32_t error;
    int32_t tid;                                  /* 0 once the child has left the shared memory */
    int64_t regs[32];
    char name[16], number[16];                    /* argv of the stub */
    uint64_t argv[3];
    uint64_t spare;
    struct op ops[];
};

static void keep_open(int fd, int across_exec)
{
    sys(__NR_fcntl, fd, 2 /* F_SETFD */, !across_exec);
}

static long argument(struct image *m, const struct op *op, int n)
{
    uint64_t value = op->args[n];
    switch (op->types >> 4 * n & 15) {
    case DATA:
        return (long)((char *)m + value);
    case REGISTER:
        return (long)m->regs[value & 31];
    default:
        return (long)value;
    }
}

/* Exec the stub; the memory file, the pipe and the fds in args[1..] survive this one exec. */
static long exec_stub(struct image *m, const struct op *op)
{
    unsigned fd = (unsigned)m->memfd;
    char *digit = m->number + sizeof m->number;
    *--digit = 0;
    do
        *--digit = (char)('0' + fd % 10);
    while (fd /= 10);
    m->argv[0] = (uint64_t)m->name;
    m->argv[1] = (uint64_t)digit;
    m->argv[2] = 0;
    keep_open(m->memfd, 1);
    keep_open(m->pipe, 1);
    for (int n = 1; n < ARGS; n++)
        if (argument(m, op, n) >= 0)
            keep_open((int)argument(m, op, n), 1);
    return sys6(__NR_execveat, argument(m, op, 0), (long)(m->argv + 2), (long)m->argv,
                (long)(m->argv + 2), 0x1000 /* AT_EMPTY_PATH */, 0);
}

static long carry_out(struct image *m, const struct op *op)
{
    if (op->kind == STUB)
        return exec_stub(m, op);
    if (op->kind == STORE) {
        volatile char *place = (char *)argument(m, op, 1);
        if (op->args[2] == 8)
            *(volatile int64_t *)place = argument(m, op, 0);
        else
            *(volatile int32_t *)place = (int32_t)argument(m, op, 0);
        return 0;
    }
    return sys6(op->nr, argument(m, op, 0), argument(m, op, 1), argument(m, op, 2),
                argument(m, op, 3), argument(m, op, 4), argument(m, op, 5));
}

static int tolerated(const struct op *op, int number)
{
    for (int n = 0; n < OKS; n++)
        if (op->ok[n] == ANY || op->ok[n] == number)
            return 1;
    return 0;
}

static void stamp(struct image *m, unsigned index)
{
    if (m->times) {
        int64_t now[2];
        sys(__NR_clock_gettime, 1 /* CLOCK_MONOTONIC */, now, 0);
        ((volatile int64_t *)((char *)m + m->times))[index] = now[0] * 1000000000 + now[1];
    }
}

/* Make the pointers in the data block right for where the image is mapped here. */
static void relocate(struct image *m)
{
    uint64_t delta = (uint64_t)m + m->data - m->base;
    uint32_t *offsets = (uint32_t *)((char *)m + m->relocs);
    for (unsigned n = 0; n < m->n_relocs; n++)
        *(uint64_t *)((char *)m + m->data + offsets[n]) += delta;
    m->base += delta;
}

/* Run the ops from `index` on; does not return. The exit status is that of a shell:
 * 127 command not found, 126 not executable, 125 anything else. */
static void run(struct image *m, unsigned index)
{
    while (index < m->n_ops) {
        const struct op *op = &m->ops[index];
        m->op = index;
        if (op->kind == EXEC || op->kind == STUB)
            stamp(m, index);
        long result = carry_out(m, op);
        if (result >= 0 && result < op->minimum)
            result = -NO_DATA_YET;
        if (op->kind == CALL)
            stamp(m, index);
        if (result < 0 && result > -4096) {
            if (!tolerated(op, (int)-result)) {
                m->error = (int)-result;
                m->state = STATE_FAILED;
                int status = op->kind != EXEC ? 125 : result == -2 /* ENOENT */ ? 127 : 126;
                sys(__NR_exit_group, status, 0, 0);
            }
            index = (unsigned)op->on_error;
        } else {
            if (op->into >= 0)
                m->regs[op->into & 31] = result;
            index = (unsigned)op->on_success;
        }
    }
    m->state = STATE_DONE;
    sys(__NR_exit_group, 0, 0, 0);
}

#endif
