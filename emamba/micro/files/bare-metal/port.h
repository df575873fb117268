/* What main.c needs of a processor: cortex-m.c, risc-v.c. `start` and `number` are in start.c. */
#ifndef PORT_H
#define PORT_H
#include <stdint.h>

extern uint32_t stack_top[], bss_end[];

void start(void);            /* fills the memory, runs main, and leaves with its status */
void leave(int status);      /* ends the program, by a debugger's semihosting */
void say(const char *line);  /* through the same */
void begin_count(void);
uint32_t count(uint32_t *from); /* units since `from`, which becomes now: instructions, or counts of a timer */
char *number(char *to, uint32_t value); /* writes digits and a space, and returns their end */

#endif
