/* The command `pycontain`: starts Python without site-packages and without the caller's PYTHON*
 * variables. A console_script would cost 6 ms more, a shell script half a millisecond. */
#include "launch.h"

static const char CODE[] = BOOT("cli", "pycontain.cli.entry", "main");

ENTRY_POINT

__attribute__((noreturn)) void start(long *stack)
{
    struct place place;
    char **argv = (char **)(stack + 1);
    find_place(&place);
    start_python(&place, CODE, stack[0], argv, argv + stack[0] + 1);
}
