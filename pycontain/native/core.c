/* The extension module `pycontain.native._core`: spawn a program, enter the kernel.
 *
 * spawn() starts a child that shares this process's memory (CLONE_VM) on a stack of its own and
 * carries out an encoded program (loop.h). Nothing is copied, so its cost does not grow with the
 * size of this process, and no lock of another thread can hang it: the child makes raw system
 * calls only. syscalls/executor.py is the only caller. */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loop.h"

enum { STACK_BYTES = 32768, SIGNALS = 64, PIDFD = 0x1000, VFORK = 0x4000, VM = 0x100 };
#define CLEARTID 0x200000ull
#define NEWUSER 0x10000000ull
#define CLEAR_SIGHAND 0x100000000ull
#define INTO_CGROUP 0x200000000ull
#define NEWTIME 0x80ull

struct clone_arguments {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    uint64_t set_tid, set_tid_size, cgroup;
};

/* Children that share our memory now, and the dumpable flag to restore after the last of them.
 * Read and written with the interpreter lock held. */
static int sharing, saved_dumpable;

static void child(struct image *m)
{
    uint64_t action[4] = {0, 0, 0, 0}, none = 0; /* SIG_DFL; ignored signals survive a clone */
    for (int n = 1; n <= SIGNALS; n++)
        sys6(__NR_rt_sigaction, n, (long)action, 0, 8, 0, 0);
    sys6(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)&none, 0, 8, 0, 0);
    m->state = STATE_CHILD;
    run(m, 0);
}

/* Both return the pid, or -errno, in the parent; the child never returns from child(). */
#if defined(__x86_64__)
static long clone3(struct clone_arguments *args, struct image *m)
{
    register void (*entry)(struct image *) __asm__("r12") = child;
    register struct image *image __asm__("r13") = m;
    long result;
    __asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\txor %%ebp, %%ebp\n\t"
                     "mov %[image], %%rdi\n\tcall *%[entry]\n\thlt\n1:"
                     : "=a"(result)
                     : "a"(435), "D"(args), "S"(sizeof *args), [entry] "r"(entry), [image] "r"(image)
                     : "rcx", "r11", "memory");
    return result;
}

static long old_clone(struct clone_arguments *args, struct image *m)
{
    register void (*entry)(struct image *) __asm__("r12") = child;
    register struct image *image __asm__("r13") = m;
    register uint64_t r10 __asm__("r10") = args->child_tid, r8 __asm__("r8") = 0;
    long result;
    __asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\txor %%ebp, %%ebp\n\t"
                     "mov %[image], %%rdi\n\tcall *%[entry]\n\thlt\n1:"
                     : "=a"(result)
                     : "a"(56), "D"(args->flags | args->exit_signal),
                       "S"(args->stack + args->stack_size), "d"(args->pidfd), "r"(r10), "r"(r8),
                       [entry] "r"(entry), [image] "r"(image)
                     : "rcx", "r11", "memory");
    return result;
}
#else
static long enter(long nr, long a, long b, long c, long d, long e, struct image *m)
{
    register long x8 __asm__("x8") = nr, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c, x3 __asm__("x3") = d, x4 __asm__("x4") = e;
    register void (*entry)(struct image *) __asm__("x19") = child;
    register struct image *image __asm__("x20") = m;
    __asm__ volatile("svc 0\n\tcbnz x0, 1f\n\tmov x29, xzr\n\tmov x0, %[image]\n\t"
                     "blr %[entry]\n\tbrk #0\n1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), [entry] "r"(entry),
                       [image] "r"(image)
                     : "x30", "memory");
    return x0;
}

static long clone3(struct clone_arguments *args, struct image *m)
{
    return enter(435, (long)args, sizeof *args, 0, 0, 0, m);
}

static long old_clone(struct clone_arguments *args, struct image *m)
{
    return enter(220, (long)(args->flags | args->exit_signal),
                 (long)(args->stack + args->stack_size), (long)args->pidfd, 0,
                 (long)args->child_tid, m);
}
#endif

static long start_child(struct clone_arguments *args, struct image *m)
{
    uint64_t all = ~0ull, before;
    /* A handler of ours must not run in the child, on memory the two share. */
    sys6(__NR_rt_sigprocmask, 2, (long)&all, (long)&before, 8, 0, 0);
    long pid = clone3(args, m);
    if (pid == -ENOSYS && !(args->flags & (INTO_CGROUP | NEWTIME))) {
        args->flags &= ~CLEAR_SIGHAND; /* seccomp of an outer container refuses clone3 */
        pid = old_clone(args, m);
    }
    sys6(__NR_rt_sigprocmask, 2, (long)&before, 0, 8, 0, 0);
    return pid;
}

static void enter_sharing(int hide)
{
    if (sharing++ == 0)
        saved_dumpable = (int)sys(__NR_prctl, 3 /* PR_GET_DUMPABLE */, 0, 0);
    if (hide)
        sys(__NR_prctl, 4 /* PR_SET_DUMPABLE */, 0, 0);
}

/* A uid change in the child clears the flag of the memory it shares with us. */
static void leave_sharing(void)
{
    if (--sharing == 0)
        sys(__NR_prctl, 4 /* PR_SET_DUMPABLE */, saved_dumpable, 0);
}

static PyObject *fail(long result)
{
    errno = (int)-result;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* Map `size` bytes that the child, and with `memfd` the stub, will share. */
static struct image *map_image(const void *bytes, size_t size, int memfd)
{
    int flags = memfd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
    if (memfd >= 0 && write(memfd, bytes, size) != (ssize_t)size)
        return MAP_FAILED;
    struct image *m = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_POPULATE, memfd, 0);
    if (memfd < 0 && m != MAP_FAILED)
        __builtin_memcpy(m, bytes, size);
    return m;
}

static char *map_stack(void)
{
    size_t guard = (size_t)getpagesize();
    char *low = mmap(NULL, STACK_BYTES + guard, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (low != MAP_FAILED)
        mprotect(low, guard, PROT_NONE);
    return low;
}

static void unmap(struct image *m, char *stack)
{
    if (stack != MAP_FAILED)
        munmap(stack, STACK_BYTES + (size_t)getpagesize());
    if (m != MAP_FAILED)
        munmap(m, m->size);
}

PyDoc_STRVAR(spawn_doc,
             "spawn(image, flags, cgroup_fd, vfork) -> (pid, pidfd, pipe, address, stack)\n\n"
             "Start a child that carries out an encoded program. `pipe` reads end of file when the\n"
             "command was executed or the child died; -1 when vfork already waited for that.");

static PyObject *spawn(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer bytes;
    unsigned long long flags;
    int cgroup, vfork, pidfd = -1, memfd = -1, ends[2] = {-1, -1};
    if (!PyArg_ParseTuple(args, "y*Kip", &bytes, &flags, &cgroup, &vfork))
        return NULL;
    const struct image *source = bytes.buf;
    if ((size_t)bytes.len < sizeof *source || source->magic != MAGIC ||
        source->size != (size_t)bytes.len) {
        PyBuffer_Release(&bytes);
        PyErr_SetString(PyExc_ValueError, "not an encoded program");
        return NULL;
    }
    int stub = source->exec_index >= 0;
    struct image *m = MAP_FAILED;
    char *stack = map_stack();
    long pid = stack == MAP_FAILED ? -errno : 0;
    if (!pid && stub)
        pid = (memfd = (int)sys(__NR_memfd_create, "program", 1 /* MFD_CLOEXEC */, 0)) < 0 ? memfd : 0;
    if (!pid && (m = map_image(bytes.buf, (size_t)bytes.len, memfd)) == MAP_FAILED)
        pid = -errno;
    if (!pid && (stub || !vfork))
        pid = sys(__NR_pipe2, ends, 02000000 /* O_CLOEXEC */, 0);
    if (!pid) {
        m->memfd = memfd;
        m->pipe = ends[1];
        m->tid = -1;
        relocate(m);
        struct clone_arguments clone = {
            .flags = flags | VM | PIDFD | CLEARTID | CLEAR_SIGHAND | (vfork ? VFORK : 0) |
                     (cgroup >= 0 ? INTO_CGROUP : 0),
            .pidfd = (uint64_t)&pidfd,
            .child_tid = (uint64_t)&m->tid,
            .exit_signal = 17 /* SIGCHLD */,
            .stack = (uint64_t)stack + (uint64_t)getpagesize(),
            .stack_size = STACK_BYTES,
            .cgroup = cgroup >= 0 ? (uint64_t)cgroup : 0,
        };
        /* While a container's processes may see the child, none may open its /proc files; with a
         * new user namespace the id maps must be written, and none sees the child yet. */
        enter_sharing(stub && vfork && !(flags & NEWUSER));
        Py_BEGIN_ALLOW_THREADS
        pid = start_child(&clone, m);
        Py_END_ALLOW_THREADS
        if (vfork || pid < 0)
            leave_sharing();
    }
    if (memfd >= 0)
        close(memfd);
    if (ends[1] >= 0)
        close(ends[1]);
    PyBuffer_Release(&bytes);
    if (pid < 0) {
        if (ends[0] >= 0)
            close(ends[0]);
        unmap(m, stack);
        return fail(pid);
    }
    if (vfork) { /* the child has left our memory */
        munmap(stack, STACK_BYTES + (size_t)getpagesize());
        stack = NULL;
    }
    return Py_BuildValue("liiKK", pid, pidfd, ends[0], (unsigned long long)m,
                         (unsigned long long)stack);
}

PyDoc_STRVAR(report_doc, "report(address, size) -> bytes\n\nCopy the head of a spawned image.");

static PyObject *report(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long long address;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "Kn", &address, &size))
        return NULL;
    return PyBytes_FromStringAndSize((const char *)address, size);
}

PyDoc_STRVAR(release_doc,
             "release(address, stack) -> None\n\n"
             "Give back what spawn() mapped. Memory a living child still runs on is left alone.");

static PyObject *release(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long long address, stack;
    if (!PyArg_ParseTuple(args, "KK", &address, &stack))
        return NULL;
    struct image *m = (struct image *)address;
    if (stack)
        leave_sharing();
    if (!stack || *(volatile int32_t *)&m->tid == 0)
        unmap(m, stack ? (char *)stack : MAP_FAILED);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(syscall_doc,
             "syscall(nr, *args) -> int\n\n"
             "Enter the kernel; bytes-like arguments are passed as pointers, None as NULL.");

static int take_argument(PyObject *item, Py_buffer *view, long *value)
{
    if (PyLong_Check(item)) {
        *value = (long)PyLong_AsUnsignedLongLongMask(item);
        return PyErr_Occurred() ? -1 : 0;
    }
    if (item == Py_None)
        return *value = 0;
    int flags = PyBytes_Check(item) ? PyBUF_SIMPLE : PyBUF_SIMPLE | PyBUF_WRITABLE;
    if (PyObject_GetBuffer(item, view, flags) < 0) {
        PyErr_Clear(); /* a read-only view is for calls that only read */
        if (PyObject_GetBuffer(item, view, PyBUF_SIMPLE) < 0)
            return -1;
    }
    *value = (long)view->buf;
    return 0;
}

static PyObject *py_syscall(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer views[7];
    long values[7] = {0};
    Py_ssize_t n, given = PyTuple_Size(args);
    PyObject *result = NULL;
    if (given < 1 || given > 7) {
        PyErr_SetString(PyExc_TypeError, "syscall takes a number and up to six arguments");
        return NULL;
    }
    memset(views, 0, sizeof views);
    for (n = 0; n < given; n++)
        if (take_argument(PyTuple_GetItem(args, n), &views[n], &values[n]) < 0)
            goto out;
    long answer;
    Py_BEGIN_ALLOW_THREADS
    answer = sys6(values[0], values[1], values[2], values[3], values[4], values[5], values[6]);
    Py_END_ALLOW_THREADS
    result = answer < 0 && answer > -4096 ? fail(answer) : PyLong_FromLong(answer);
out:
    for (n = 0; n < given; n++)
        if (views[n].obj)
            PyBuffer_Release(&views[n]);
    return result;
}

/* The attributes of ops.Op and of the arguments that are read, interned once. */
static PyObject *name_call, *name_args, *name_into, *name_ok, *name_minimum, *name_index;
static PyObject *name_on_error, *name_on_success, *name_offset;

struct encoder {
    PyObject *numbers, *number, *kinds, *string, *reg; /* dict, function, dict, method, class */
    long long data;                                    /* offset of the data block */
};

static int get_number(PyObject *object, PyObject *name, long long *value)
{
    PyObject *found = PyObject_GetAttr(object, name);
    if (!found)
        return -1;
    *value = PyLong_AsLongLong(found);
    Py_DecRef(found);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

/* An int, None, a str or bytes (put into the data block), a Reg or a Data. */
static int encode_argument(struct encoder *e, PyObject *arg, struct op *op, int n)
{
    long long value = 0;
    if (PyLong_Check(arg)) {
        op->args[n] = PyLong_AsUnsignedLongLongMask(arg);
        return PyErr_Occurred() ? -1 : 0;
    }
    if (arg == Py_None)
        return 0;
    if (PyUnicode_Check(arg) || PyBytes_Check(arg)) {
        PyObject *place = PyObject_CallFunctionObjArgs(e->string, arg, NULL);
        int failed = !place || get_number(place, name_offset, &value) < 0;
        Py_XDECREF(place);
        if (failed)
            return -1;
        op->types |= DATA << 4 * n;
        value += e->data;
    } else if (PyObject_IsInstance(arg, e->reg) == 1) {
        if (get_number(arg, name_index, &value) < 0)
            return -1;
        op->types |= REGISTER << 4 * n;
    } else {
        if (get_number(arg, name_offset, &value) < 0)
            return -1;
        op->types |= DATA << 4 * n;
        value += e->data;
    }
    op->args[n] = (uint64_t)value;
    return 0;
}

static int encode_call(struct encoder *e, PyObject *source, struct op *op)
{
    PyObject *call = PyObject_GetAttr(source, name_call), *number;
    if (!call)
        return -1;
    PyObject *kind = PyDict_GetItemWithError(e->kinds, call); /* borrowed */
    op->kind = kind ? (uint32_t)PyLong_AsLong(kind) : CALL;
    if (op->kind < STORE) {
        number = PyDict_GetItemWithError(e->numbers, call);
        number = number ? (Py_IncRef(number), number)
                        : PyObject_CallFunctionObjArgs(e->number, call, NULL);
        op->nr = number ? (uint32_t)PyLong_AsLong(number) : 0;
        Py_XDECREF(number);
    }
    Py_DecRef(call);
    return PyErr_Occurred() ? -1 : 0;
}

static int encode_arguments(struct encoder *e, PyObject *source, struct op *op, Py_ssize_t index)
{
    PyObject *args = PyObject_GetAttr(source, name_args);
    Py_ssize_t given = args ? PyTuple_Size(args) : -1;
    int failed = given < 0;
    if (given > ARGS) {
        PyErr_Format(PyExc_ValueError, "op %zd has more than six arguments", index);
        failed = 1;
    }
    for (Py_ssize_t n = 0; n < given && !failed; n++)
        failed = encode_argument(e, PyTuple_GetItem(args, n), op, (int)n) < 0;
    if (op->kind == STUB) /* no descriptor, where none is given */
        for (Py_ssize_t n = given < 0 ? 0 : given; n < ARGS; n++)
            op->args[n] = ~0ull;
    Py_XDECREF(args);
    return failed ? -1 : 0;
}

static int encode_errnos(PyObject *source, struct op *op, Py_ssize_t index)
{
    PyObject *ok = PyObject_GetAttr(source, name_ok);
    Py_ssize_t given = ok ? PyTuple_Size(ok) : -1;
    int failed = given < 0;
    if (given > OKS) {
        PyErr_Format(PyExc_ValueError, "op %zd tolerates more than four errnos", index);
        failed = 1;
    }
    for (Py_ssize_t n = 0; n < given && !failed; n++) {
        op->ok[n] = (int16_t)PyLong_AsLong(PyTuple_GetItem(ok, n));
        failed = PyErr_Occurred() != NULL;
    }
    Py_XDECREF(ok);
    return failed ? -1 : 0;
}

static int encode_target(PyObject *source, PyObject *name, int32_t *target, Py_ssize_t index,
                         Py_ssize_t count)
{
    PyObject *label = PyObject_GetAttr(source, name);
    long long value = index + 1;
    int failed = !label || (label != Py_None && get_number(label, name_index, &value) < 0);
    Py_XDECREF(label);
    if (!failed && (value <= index || value > count)) {
        PyErr_Format(PyExc_ValueError, "op %zd jumps to %lld", index, value);
        failed = 1;
    }
    *target = (int32_t)value;
    return failed ? -1 : 0;
}

static int encode_op(struct encoder *e, PyObject *source, struct op *op, Py_ssize_t index,
                     Py_ssize_t count)
{
    long long value = -1, minimum;
    PyObject *into = PyObject_GetAttr(source, name_into);
    int failed = !into || (into != Py_None && get_number(into, name_index, &value) < 0);
    Py_XDECREF(into);
    if (failed || get_number(source, name_minimum, &minimum) < 0)
        return -1;
    op->into = (int32_t)value;
    op->minimum = minimum;
    if (encode_call(e, source, op) < 0 || encode_arguments(e, source, op, index) < 0 ||
        encode_errnos(source, op, index) < 0)
        return -1;
    if (encode_target(source, name_on_error, &op->on_error, index, count) < 0)
        return -1;
    return encode_target(source, name_on_success, &op->on_success, index, count);
}

PyDoc_STRVAR(encode_doc,
             "encode(image, ops, data, numbers, number, kinds, string, Reg) -> None\n\n"
             "Write every op into `image`, as encode._encode_op does.");

static PyObject *encode(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer bytes;
    PyObject *ops;
    struct encoder e;
    if (!PyArg_ParseTuple(args, "w*OLOOOOO", &bytes, &ops, &e.data, &e.numbers, &e.number,
                          &e.kinds, &e.string, &e.reg))
        return NULL;
    struct image *m = bytes.buf;
    Py_ssize_t count = PyList_Size(ops);
    int failed = count < 0;
    if (!failed && (size_t)bytes.len < sizeof *m + (size_t)count * sizeof(struct op)) {
        PyErr_SetString(PyExc_ValueError, "the image is too small for its ops");
        failed = 1;
    }
    for (Py_ssize_t n = 0; n < count && !failed; n++)
        failed = encode_op(&e, PyList_GetItem(ops, n), &m->ops[n], n, count) < 0;
    PyBuffer_Release(&bytes);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

static int intern_names(PyObject *Py_UNUSED(module))
{
    name_call = PyUnicode_InternFromString("call");
    name_args = PyUnicode_InternFromString("args");
    name_into = PyUnicode_InternFromString("into");
    name_ok = PyUnicode_InternFromString("ok");
    name_minimum = PyUnicode_InternFromString("minimum");
    name_index = PyUnicode_InternFromString("index");
    name_on_error = PyUnicode_InternFromString("on_error");
    name_on_success = PyUnicode_InternFromString("on_success");
    name_offset = PyUnicode_InternFromString("offset");
    return PyErr_Occurred() ? -1 : 0;
}

static PyMethodDef methods[] = {
    {"encode", encode, METH_VARARGS, encode_doc},
    {"spawn", spawn, METH_VARARGS, spawn_doc},
    {"report", report, METH_VARARGS, report_doc},
    {"release", release, METH_VARARGS, release_doc},
    {"syscall", py_syscall, METH_VARARGS, syscall_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, intern_names}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pycontain.native._core",
    .m_doc = "Spawn a program in a child that shares this process's memory.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&module);
}
