/* The command `pycontain`: starts a dumped interpreter, or else Python without site-packages and without the caller's PYTHON*
 * variables. A console_script would cost 6 ms more, a shell script half a millisecond. */
#include "restore.h"

static const char CODE[] = ENTER("pycontain.cli.entry", "main");

ENTRY_POINT

__attribute__((noreturn)) void start(long *stack)
{
    start_interpreter("pycontain", CODE, stack[0], (char **)(stack + 1));
}
