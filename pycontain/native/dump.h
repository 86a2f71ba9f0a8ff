/* A startup dump: the memory of an interpreter that has imported everything, to start from.
 *
 * dump.c writes the file (a `struct dump`, then the sources, then pages), restore.h maps it. It is
 * good for one boot of one machine: kernel, vdso and processor are what they were. */
#ifndef PYCONTAIN_DUMP_H
#define PYCONTAIN_DUMP_H

#include <stdint.h>

enum { DUMP_FORMAT = 2, MAX_REGIONS = 512, BOOT_BYTES = 36, PAGE_BYTES = 4096 };
enum { SOURCE_BYTES = 65536 };
#define DUMP_MAGIC 0x504d5544796370ull

enum region_kind {
    EMPTY,  /* zeros, or no access at all */
    SAVED,  /* pages of the dump */
    INSIDE, /* the same, inside the empty region before it */
    MAPPED, /* pages of a file, unchanged */
    WIPED,  /* zeros, and again in a forked child: libc's random numbers */
    KERNEL, /* vdso and its data: moved to where they were */
};

struct region {
    uint64_t start, end;
    uint64_t offset;     /* in the dump, or in the file */
    uint32_t protection; /* PROT_ bits */
    uint16_t kind;
    uint16_t path;       /* of the file: an offset in `paths` */
};

/* The registers a called function preserves, and where the call returns. x86-64. */
struct context {
    uint64_t rbx, rbp, r12, r13, r14, r15, rsp, rip;
};

/* What the starting process tells the restored interpreter. */
struct handover {
    const char *command;
    uint64_t argc;
    char **argv, **environment;
};

/* One source, `size` of the whole: modified nanoseconds, length, then the path and a NUL. */
struct source {
    uint64_t modified, length;
    char path[];
};

struct dump {
    uint64_t magic;
    uint32_t format, regions, sources, source_bytes;
    char boot[BOOT_BYTES]; /* /proc/sys/kernel/random/boot_id */
    uint32_t reserved;
    uint64_t thread;       /* the thread pointer */
    uint64_t thread_id;    /* where libc keeps gettid() */
    uint64_t rseq;         /* where libc lets the kernel note the processor; 0: nowhere */
    uint64_t vdso;
    struct context context;
    struct handover *handover;
    struct region region[MAX_REGIONS];
    char paths[4096];
};

#endif
