/* The command `pycontain`: starts Python without site-packages and without the caller's PYTHON*
 * variables. A console_script would cost 6 ms more, a shell script half a millisecond. */
#include "launch.h"

static const char CODE[] =
    "import _signal, sys\n"
    "if _signal.getsignal(2) is _signal.default_int_handler: _signal.signal(2, 0)\n"
    "sys.path.insert(0, sys.argv.pop(1))\n"
    "from pycontain.cli.entry import main\n"
    "main()";

ENTRY_POINT

__attribute__((noreturn)) void start(long *stack)
{
    struct place place;
    char **argv = (char **)(stack + 1);
    find_place(&place);
    start_python(&place, CODE, stack[0], argv, argv + stack[0] + 1);
}
