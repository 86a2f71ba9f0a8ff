/* Start from a dump instead of an interpreter: map what dump.c wrote, and go on where it stopped.
 *
 * Nothing is irreversible before the last line: whoever returns from restore() starts Python. */
#ifndef PYCONTAIN_RESTORE_H
#define PYCONTAIN_RESTORE_H

#include <asm/stat.h>

#include "dump.h"
#include "launch.h"

enum { OTHERS_WRITE = 022, FILE_TYPE = 0170000, REGULAR = 0100000, DIRECTORY = 0040000 };
enum { AT_NULL_ = 0, AT_SECURE_ = 23, AT_SYSINFO_EHDR_ = 33, CAPABILITIES_3 = 0x20080522 };
enum { MAP_PRIVATE_ = 2, MAP_FIXED_ = 0x10, MAP_ANONYMOUS_ = 0x20 };
enum { MAP_NORESERVE_ = 0x4000, MAP_FIXED_NOREPLACE_ = 0x100000, MREMAP_MOVE_TO = 3, MADV_WIPEONFORK_ = 18 };
enum { SET_THREAD = 0x1002, UNREGISTERED = -2 };

static int is_set(char **env, const char *variable)
{
    while (*env && !starts_with(*env, variable))
        env++;
    return *env != 0;
}

/* An entry of the auxiliary vector, which lies behind the environment; 0 if there is none. */
static uint64_t auxiliary(char **env, uint64_t wanted)
{
    uint64_t *entry;

    while (*env)
        env++;
    for (entry = (uint64_t *)(env + 1); entry[0] != AT_NULL_; entry += 2)
        if (entry[0] == wanted)
            return entry[1];
    return 0;
}

/* Whether this process may do more than its user, who could have written the dump, may otherwise. */
static int is_privileged(char **env, long uid)
{
    struct {
        uint32_t version;
        int32_t pid;
    } head = {CAPABILITIES_3, 0};
    struct {
        uint32_t effective, permitted, inheritable;
    } sets[2];

    if (auxiliary(env, AT_SECURE_) || uid != sys(__NR_getuid, 0, 0, 0))
        return 1;
    return uid && (sys(__NR_capget, &head, sets, 0) || sets[0].permitted || sets[1].permitted);
}

/* Where the dump of this installation is for this user; 0: nowhere, or it is not wanted. */
static int find_dump(const struct place *place, char **env, char *path)
{
    char key[17], number[24], *digit = number + sizeof number - 1;
    const char *runtime = 0, *const parts[] = {place->python, "\n", place->source};
    long uid = sys(__NR_geteuid, 0, 0, 0);
    uint64_t hash = 0xcbf29ce484222325ull; /* FNV-1a */

    /* Whoever loads a library or tunes malloc wants the ordinary start. */
    if (is_set(env, "PYCONTAIN_DUMP=0") || is_set(env, "LD_") || is_set(env, "GLIBC_TUNABLES=") ||
        is_privileged(env, uid))
        return 0;
    for (; *env; env++)
        if (starts_with(*env, "XDG_RUNTIME_DIR=/"))
            runtime = *env + length_of("XDG_RUNTIME_DIR=");
    for (size_t n = 0; n < sizeof parts / sizeof *parts; n++)
        for (const char *c = parts[n]; *c; c++)
            hash = (hash ^ (uint8_t)*c) * 0x100000001b3ull;
    for (int n = 0; n < 16; n++)
        key[n] = "0123456789abcdef"[hash >> (60 - 4 * n) & 15];
    key[16] = 0;
    if (!uid)
        return join(path, PATH_BYTES, "/run/pycontain.start/", key, "", "");
    if (runtime)
        return join(path, PATH_BYTES, runtime, "/pycontain.start/", key, "");
    *digit = 0;
    for (; uid; uid /= 10)
        *--digit = (char)('0' + uid % 10);
    return join(path, PATH_BYTES, "/tmp/pycontain-run-", digit, "/pycontain.start/", key);
}

#if defined(__x86_64__)

static int read_at(int fd, void *into, uint64_t size, uint64_t offset)
{
    return sys6(__NR_pread64, fd, (long)into, (long)size, (long)offset, 0, 0) == (long)size;
}

static int same_boot(const struct dump *dump)
{
    char now[BOOT_BYTES];
    long fd = sys6(__NR_openat, AT_FDCWD_, (long)"/proc/sys/kernel/random/boot_id",
                   O_RDONLY_ | O_CLOEXEC_, 0, 0, 0);
    int same = fd >= 0 && sys(__NR_read, fd, now, sizeof now) == sizeof now;

    for (int n = 0; same && n < BOOT_BYTES; n++)
        same = now[n] == dump->boot[n];
    if (fd >= 0)
        sys(__NR_close, fd, 0, 0);
    return same;
}

/* Whether every source is as it was when the dump was written. */
static int sources_are_fresh(const struct dump *dump, const char *sources)
{
    const char *at = sources, *end = sources + dump->source_bytes;
    struct stat status;

    for (uint32_t n = 0; n < dump->sources; n++) {
        const struct source *source = (const struct source *)at;
        if (at >= end || sys6(__NR_newfstatat, AT_FDCWD_, (long)source->path, (long)&status, 0, 0, 0))
            return 0;
        if (status.st_mtime * 1000000000ull + status.st_mtime_nsec != source->modified ||
            (uint64_t)status.st_size != source->length)
            return 0;
        at += (sizeof *source + length_of(source->path) + 8) & ~7ull;
    }
    return dump->sources > 0;
}

/* Open `name` if it is this user's own, no link, and written by nobody else; -1 otherwise. */
static int open_own(int at, const char *name, uint32_t type)
{
    struct stat status;
    long fd = sys6(__NR_openat, at, (long)name, O_RDONLY_ | O_CLOEXEC_ | O_NOFOLLOW_, 0, 0, 0);

    if (fd < 0)
        return -1;
    if (!sys(__NR_fstat, fd, &status, 0) && status.st_uid == sys(__NR_geteuid, 0, 0, 0) &&
        (status.st_mode & FILE_TYPE) == type && !(status.st_mode & OTHERS_WRITE))
        return (int)fd;
    sys(__NR_close, fd, 0, 0);
    return -1;
}

/* The same for the last two directories of a path and the file in them: in /tmp others may make, and
 * exchange, what is missing. */
static int open_own_path(const char *path)
{
    char way[PATH_BYTES], *part[3] = {way};
    int fd = AT_FDCWD_;

    join(way, sizeof way, path, "", "", "");
    for (int n = 2; n > 0; n--) {
        char *slash = way + length_of(way);
        while (*slash != '/')
            slash--;
        *slash = 0;
        part[n] = slash + 1;
    }
    for (int n = 0; n < 3; n++) {
        int next = open_own(fd, part[n], n < 2 ? DIRECTORY : REGULAR);
        if (n)
            sys(__NR_close, fd, 0, 0);
        if (next < 0)
            return -1;
        fd = next;
    }
    return fd;
}

/* Open the dump if it is this user's own, whole and up to date; -1 otherwise. */
static int open_dump(const char *path, struct dump *dump)
{
    static char sources[SOURCE_BYTES] __attribute__((aligned(8)));
    int fd = open_own_path(path);

    if (fd < 0)
        return -1;
    if (read_at(fd, dump, sizeof *dump, 0) && dump->magic == DUMP_MAGIC &&
        dump->format == DUMP_FORMAT && dump->regions <= MAX_REGIONS &&
        dump->source_bytes < sizeof sources && same_boot(dump) &&
        read_at(fd, sources, dump->source_bytes, sizeof *dump) &&
        sources_are_fresh(dump, sources))
        return fd;
    sys(__NR_close, fd, 0, 0);
    return -1;
}

static int map(const struct region *region, long flags, int fd)
{
    return sys6(__NR_mmap, (long)region->start, (long)(region->end - region->start),
                region->protection, MAP_PRIVATE_ | flags, fd, (long)region->offset) ==
           (long)region->start;
}

/* The file a region is mapped from. Regions of one file follow each other. */
struct open_file {
    long fd;
    uint16_t path;
};

static void close_file(struct open_file *file)
{
    if (file->fd >= 0)
        sys(__NR_close, file->fd, 0, 0);
    file->fd = -1;
}

static int map_file(const struct dump *dump, const struct region *region, struct open_file *file)
{
    if (file->fd < 0 || file->path != region->path) {
        close_file(file);
        file->path = region->path;
        file->fd = sys6(__NR_openat, AT_FDCWD_, (long)(dump->paths + region->path),
                        O_RDONLY_ | O_CLOEXEC_, 0, 0, 0);
    }
    return file->fd >= 0 && map(region, MAP_FIXED_NOREPLACE_, (int)file->fd);
}

/* Move a part of the vdso by `distance` to where it was. */
static int move(const struct region *region, uint64_t distance)
{
    uint64_t length = region->end - region->start;

    if (!distance)
        return 1;
    /* mremap would replace what is there: see first that nothing is. */
    if (!map(region, MAP_ANONYMOUS_ | MAP_FIXED_NOREPLACE_, -1))
        return 0;
    return sys6(__NR_mremap, (long)(region->start - distance), (long)length, (long)length,
                MREMAP_MOVE_TO, (long)region->start, 0) == (long)region->start;
}

static int map_all(const struct dump *dump, int fd, uint64_t vdso)
{
    struct open_file file = {-1, 0};
    int done = vdso != 0;

    for (uint32_t n = 0; done && n < dump->regions; n++) {
        const struct region *region = &dump->region[n];
        switch (region->kind) {
        case EMPTY:
            done = map(region, MAP_ANONYMOUS_ | MAP_NORESERVE_ | MAP_FIXED_NOREPLACE_, -1);
            break;
        case WIPED:
            done = map(region, MAP_ANONYMOUS_ | MAP_FIXED_NOREPLACE_, -1) &&
                   !sys(__NR_madvise, region->start, region->end - region->start, MADV_WIPEONFORK_);
            break;
        case SAVED:
            done = map(region, MAP_FIXED_NOREPLACE_, fd);
            break;
        case INSIDE:
            done = map(region, MAP_FIXED_, fd);
            break;
        case MAPPED:
            done = map_file(dump, region, &file);
            break;
        default:
            done = move(region, dump->vdso - vdso);
        }
    }
    close_file(&file);
    return done;
}

/* Returns 0 when there is no dump that is up to date, 1 when there is and it cannot be mapped here. */
static int restore(const char *path, const char *command, long argc, char **argv, char **env)
{
    static struct dump dump;
    struct context *context = &dump.context;
    int fd = open_dump(path, &dump);

    if (fd < 0)
        return 0;
    if (!map_all(&dump, fd, auxiliary(env, AT_SYSINFO_EHDR_)))
        return 1;
    sys(__NR_close, fd, 0, 0);
    sys(__NR_arch_prctl, SET_THREAD, dump.thread, 0);
    *(int32_t *)dump.thread_id = (int32_t)sys(__NR_set_tid_address, dump.thread_id, 0, 0);
    if (dump.rseq)
        ((int32_t *)dump.rseq)[1] = UNREGISTERED; /* cpu_id */
    *dump.handover = (struct handover){command, (uint64_t)argc, argv, env};
    hold_interrupt();
    __asm__ volatile("mov 0(%0), %%rbx\n mov 8(%0), %%rbp\n mov 16(%0), %%r12\n mov 24(%0), %%r13\n"
                     " mov 32(%0), %%r14\n mov 40(%0), %%r15\n mov 48(%0), %%rsp\n mov $1, %%eax\n"
                     " jmp *56(%0)"
                     :
                     : "D"(context)
                     : "memory");
    __builtin_unreachable();
}

#else

/* Written for x86-64 so far: the others always start Python. */
static int restore(const char *path, const char *command, long argc, char **argv, char **env)
{
    (void)path, (void)command, (void)argc, (void)argv, (void)env;
    return 1;
}

#endif

/* Go on as `command`, from the dump if there is one, else in a new interpreter that executes `code`. */
__attribute__((noreturn)) static void start_interpreter(const char *command, const char *code,
                                                        long argc, char **argv)
{
    struct place place;
    char dump[PATH_BYTES], **env = argv + argc + 1;
    int wanted;

    dump[0] = 0; /* not an initialiser: that would be a call of memset */
    find_place(&place);
    wanted = find_dump(&place, env, dump);
    if (wanted && restore(dump, command, argc, argv, env))
        wanted = 0;
    if (is_set(env, "PYCONTAIN_DUMP=1"))
        fail("cannot start from a dump: ", dump);
    if (!wanted)
        dump[0] = 0;
    start_python(&place, code, dump, argc, argv, env);
}

#endif
