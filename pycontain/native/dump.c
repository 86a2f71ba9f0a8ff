/* The extension module `pycontain.native._dump`: write this process's memory to a file that restore.h
 * starts from.
 *
 * dump() returns twice, like setjmp: None in the process that writes, and what the starting process
 * was called with in every process that is restored. pycontain/dump.py is the only caller; x86-64
 * and glibc only. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>

#if defined(__x86_64__) && defined(__GLIBC__)

#include <asm/prctl.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dump.h"

enum { MAPS_BYTES = 1 << 19, NAME_BYTES = 1024, GAP_PAGES = 16, STACK_BYTES = 8 << 20 };
enum { THREAD_HEAD = 704, THREAD_BYTES = 2304, SIGNALS = 64 };

extern char **environ;
extern void *__curbrk;
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

static struct dump dump;
static struct handover handover;
static uint64_t written; /* bytes of the file so far */
static uint32_t path_bytes;

int save_context(struct context *context) __attribute__((returns_twice, visibility("hidden")));
__asm__(".text\n.globl save_context\n.hidden save_context\n.type save_context, @function\nsave_context:\n"
        " mov %rbx, 0(%rdi)\n mov %rbp, 8(%rdi)\n mov %r12, 16(%rdi)\n mov %r13, 24(%rdi)\n"
        " mov %r14, 32(%rdi)\n mov %r15, 40(%rdi)\n lea 8(%rsp), %rax\n mov %rax, 48(%rdi)\n"
        " mov (%rsp), %rax\n mov %rax, 56(%rdi)\n xor %eax, %eax\n ret\n"
        ".size save_context, . - save_context\n");

/* One entry of /proc/self/smaps. */
struct mapping {
    uint64_t start, end, offset;
    int protection, shared, wiped;
    char name[NAME_BYTES];
};

static int add_region(const struct mapping *mapping, enum region_kind kind, uint64_t offset)
{
    if (dump.regions == MAX_REGIONS) {
        errno = E2BIG;
        return -1;
    }
    dump.region[dump.regions++] = (struct region){
        mapping->start, mapping->end, offset, (uint32_t)mapping->protection, (uint16_t)kind, 0};
    return 0;
}

static int is_zero(const char *page)
{
    static const char zeros[PAGE_BYTES];
    return !memcmp(page, zeros, PAGE_BYTES);
}

static int write_all(int fd, const char *bytes, uint64_t size, uint64_t offset)
{
    while (size) {
        ssize_t done = pwrite(fd, bytes, size, (off_t)offset);
        if (done < 0)
            return -1;
        bytes += done, size -= (uint64_t)done, offset += (uint64_t)done;
    }
    return 0;
}

static int save_pages(int fd, const struct mapping *part, enum region_kind kind)
{
    uint64_t size = part->end - part->start;
    if (add_region(part, kind, written) || write_all(fd, (char *)part->start, size, written))
        return -1;
    written += size;
    return 0;
}

/* Save the pages that are not zero; a short run of zeros between others costs less than a mapping. */
static int save(int fd, const struct mapping *whole)
{
    struct mapping part = *whole;
    uint64_t at = whole->start, end = whole->end;

    if (add_region(whole, EMPTY, 0))
        return -1;
    while (at < end) {
        uint64_t gap = 0;
        if (is_zero((char *)at)) {
            at += PAGE_BYTES;
            continue;
        }
        for (part.start = at; at < end && gap < GAP_PAGES; at += PAGE_BYTES)
            gap = is_zero((char *)at) ? gap + 1 : 0;
        part.end = at - gap * PAGE_BYTES;
        if (part.start == whole->start && part.end == whole->end) {
            dump.regions--;
            return save_pages(fd, &part, SAVED);
        }
        if (save_pages(fd, &part, INSIDE))
            return -1;
    }
    return 0;
}

/* Whether memory holds just what the file does, so that restoring can map the file. */
static int is_unchanged(const struct mapping *mapping)
{
    size_t size = mapping->end - mapping->start;
    int fd = open(mapping->name, O_RDONLY | O_CLOEXEC), same = 0;
    void *bytes;

    if (fd < 0)
        return 0;
    bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, (off_t)mapping->offset);
    close(fd);
    if (bytes != MAP_FAILED) {
        same = !memcmp(bytes, (void *)mapping->start, size);
        munmap(bytes, size);
    }
    return same;
}

static int add_file(const struct mapping *mapping)
{
    size_t size = strlen(mapping->name) + 1;
    uint32_t at = 0;

    while (at < path_bytes && strcmp(dump.paths + at, mapping->name))
        at += (uint32_t)strlen(dump.paths + at) + 1;
    if (at == path_bytes) {
        if (path_bytes + size > sizeof dump.paths) {
            errno = E2BIG;
            return -1;
        }
        memcpy(dump.paths + path_bytes, mapping->name, size);
        path_bytes += (uint32_t)size;
    }
    if (add_region(mapping, MAPPED, mapping->offset))
        return -1;
    dump.region[dump.regions - 1].path = (uint16_t)at;
    return 0;
}

/* A stack that was restored does not grow. */
static int add_room_below(const struct mapping *stack)
{
    struct mapping room = *stack;

    room.start = stack->end - STACK_BYTES;
    room.end = stack->start;
    return add_region(&room, EMPTY, 0);
}

static int add_mapping(int fd, struct mapping *mapping)
{
    if (!strcmp(mapping->name, "[vsyscall]"))
        return 0;
    if (!strncmp(mapping->name, "[v", 2))
        return add_region(mapping, KERNEL, 0);
    if (mapping->shared && mapping->protection & PROT_WRITE) {
        errno = EBUSY;
        return -1;
    }
    if (mapping->wiped)
        return add_region(mapping, WIPED, 0);
    if (!mapping->protection)
        return add_region(mapping, EMPTY, 0);
    if (mapping->name[0] == '/' && !(mapping->protection & PROT_WRITE) && is_unchanged(mapping))
        return add_file(mapping);
    if (!strcmp(mapping->name, "[stack]") && add_room_below(mapping))
        return -1;
    return save(fd, mapping);
}

/* Read /proc/self/smaps before anything else is mapped or written. */
static int read_maps(char *text)
{
    int fd = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
    ssize_t got, size = 0;

    if (fd < 0)
        return -1;
    while ((got = read(fd, text + size, (size_t)(MAPS_BYTES - 1 - size))) > 0)
        size += got;
    close(fd);
    text[size] = 0;
    return got < 0 ? -1 : 0;
}

static int add_memory(int fd)
{
    static char text[MAPS_BYTES];
    char *rest, permissions[8];
    struct mapping next, mapping;

    if (read_maps(text))
        return -1;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        next.name[0] = 0;
        if (sscanf(line, "%lx-%lx %7s %lx %*s %*s %1023[^\n]", &next.start, &next.end, permissions,
                   &next.offset, next.name) >= 4)
            mapping = next;
        /* The last line of each entry. */
        if (strncmp(line, "VmFlags:", 8))
            continue;
        mapping.protection = (permissions[0] == 'r' ? PROT_READ : 0) |
                             (permissions[1] == 'w' ? PROT_WRITE : 0) |
                             (permissions[2] == 'x' ? PROT_EXEC : 0);
        mapping.shared = permissions[3] == 's';
        mapping.wiped = strstr(line, " wf") != NULL;
        if (add_mapping(fd, &mapping))
            return -1;
    }
    if (!dump.regions) {
        errno = ENOSYS;
        return -1;
    }
    return 0;
}

/* Where libc keeps the number of this thread: behind the head that every binary knows, and not in the
 * upper half of a pointer. */
static uint64_t find_thread_id(uint64_t thread)
{
    for (uint64_t at = thread + THREAD_HEAD; at < thread + THREAD_BYTES; at += sizeof(void *))
        if (*(pid_t *)at == getpid())
            return at;
    return 0;
}

static int write_dump(int fd, const char *boot, const char *sources, Py_ssize_t size, unsigned count)
{
    dump.magic = DUMP_MAGIC;
    dump.format = DUMP_FORMAT;
    dump.regions = 0;
    dump.sources = count;
    dump.source_bytes = (uint32_t)size;
    memcpy(dump.boot, boot, BOOT_BYTES);
    dump.handover = &handover;
    dump.vdso = getauxval(AT_SYSINFO_EHDR);
    if (syscall(SYS_arch_prctl, ARCH_GET_FS, &dump.thread))
        return -1;
    dump.thread_id = find_thread_id(dump.thread);
    dump.rseq = &__rseq_size && __rseq_size ? dump.thread + (uint64_t)__rseq_offset : 0;
    if (!dump.thread_id || !dump.vdso) {
        errno = ENOSYS;
        return -1;
    }
    written = (sizeof dump + (uint64_t)size + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
    return add_memory(fd) || write_all(fd, sources, (uint64_t)size, sizeof dump) ||
                   write_all(fd, (char *)&dump, sizeof dump, 0)
               ? -1
               : 0;
}

/* What of a process an interpreter sets up at its start and memory does not hold. Returns the list of
 * the signals this process was told to ignore. */
static PyObject *settle(void)
{
    PyObject *ignored = PyList_New(0);

    __curbrk = (void *)syscall(SYS_brk, 0);
    environ = handover.environment;
    PyOS_AfterFork_Child();
    for (int number = 1; ignored && number <= SIGNALS; number++) {
        struct sigaction action;
        PyObject *entry;
        if (sigaction(number, NULL, &action) || action.sa_handler != SIG_IGN)
            continue;
        entry = PyLong_FromLong(number);
        if (!entry || PyList_Append(ignored, entry))
            Py_CLEAR(ignored);
        Py_XDECREF(entry);
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    return ignored;
}

static PyObject *list_of(char **words, uint64_t count, PyObject *(*convert)(const char *))
{
    PyObject *list = PyList_New(0);

    for (uint64_t n = 0; list && n < count; n++) {
        PyObject *word = convert(words[n]);
        if (!word || PyList_Append(list, word))
            Py_CLEAR(list);
        Py_XDECREF(word);
    }
    return list;
}

PyDoc_STRVAR(dump_doc,
"dump(fd, boot, sources, count) -> None or (command, argv, environment, ignored)\n"
"Write this process to `fd`: None here, a tuple in each process that is restored from it.\n"
"`boot` is the boot's id, `sources` `count` entries as in dump.h, `ignored` signal numbers.\n"
"OSError when it cannot be written, or cannot be restored: another thread, shared memory.");

static PyObject *py_dump(PyObject *Py_UNUSED(module), PyObject *args)
{
    static const char *boot, *sources;
    static Py_ssize_t boot_size, source_size;
    static int fd;
    static unsigned count;
    uint64_t variables = 0;
    PyObject *ignored;

    if (!PyArg_ParseTuple(args, "iy#y#I", &fd, &boot, &boot_size, &sources, &source_size, &count))
        return NULL;
    if (boot_size != BOOT_BYTES || source_size >= SOURCE_BYTES) {
        PyErr_SetString(PyExc_ValueError, "not the id of a boot, or too many sources");
        return NULL;
    }
    /* To the interpreter a restored process is a forked child. */
    PyOS_BeforeFork();
    if (!save_context(&dump.context)) {
        int failed = write_dump(fd, boot, sources, source_size, count), error = errno;
        PyOS_AfterFork_Parent();
        errno = error;
        if (failed)
            return PyErr_SetFromErrno(PyExc_OSError);
        Py_RETURN_NONE;
    }
    /* Before anything is allocated. */
    ignored = settle();
    while (handover.environment[variables])
        variables++;
    return Py_BuildValue("(sNNN)", handover.command,
                         list_of(handover.argv, handover.argc, PyUnicode_DecodeFSDefault),
                         list_of(handover.environment, variables, PyBytes_FromString), ignored);
}

static PyMethodDef methods[] = {{"dump", py_dump, METH_VARARGS, dump_doc}, {NULL, NULL, 0, NULL}};

#else

static PyMethodDef methods[] = {{NULL, NULL, 0, NULL}};

#endif

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pycontain.native._dump",
    .m_doc = "Write this process's memory to a file that restore.h starts from.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__dump(void)
{
    return PyModuleDef_Init(&module);
}
