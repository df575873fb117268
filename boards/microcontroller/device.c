/* The protocol of rtl/system/serial.py and the registers of rtl/system/registers.py. */

#include <string.h>

#include "device.h"
#include "identity.h"
#include "model.h"
#include "registers.h"

enum { END = 0xC0, ESC = 0xDB, ESCAPED_END = 0xDC, ESCAPED_ESC = 0xDD };
enum { REFUSED, HELLO, READ, WRITE, DATA, LAST, RESULT };
enum { VERSION = 2, ENDS = 8, CHECK = 4, LONGEST = 1024, ENDED = 1, MARKED = 2, WRONG_ADDRESS = 2 };
enum { TOKEN = MODEL_INPUT_WIDTH * sizeof(model_input), STATE_WORDS = MODEL_CARRIED ? MODEL_STATE_BYTES / 4 : 1 };

static struct {
    uint8_t message[LONGEST + CHECK];
    uint32_t size; /* of it so far; beyond its end, it is damaged */
    uint32_t ends;
    int escaped, open, damaged;
    uint16_t received, sent;
    uint32_t check; /* of the message that leaves */
    model_input token[MODEL_INPUT_WIDTH];
    uint32_t filled, tokens, excess; /* bytes of this token, tokens of this packet, bytes beyond its end */
    int begun;                       /* a packet has */
    uint32_t control, errors, interrupt, interrupt_enable, scratch, cleared;
    uint32_t in, out, bad, first_bad, shorts, longs;
    uint32_t address; /* of a word of the state */
    uint32_t state[STATE_WORDS];
} d;

static model m;

/* -- messages to the driver ----------------------------------------------------------------------------------------------- */

static uint32_t crc(uint32_t check, uint8_t byte) {
    check ^= byte;
    for (int k = 0; k < 8; k++)
        check = check >> 1 ^ (check & 1 ? UINT32_C(0xEDB88320) : 0);
    return check;
}

static void put_coded(uint8_t byte) {
    if (byte == END || byte == ESC)
        device_put(ESC);
    device_put(byte == END ? ESCAPED_END : byte == ESC ? ESCAPED_ESC : byte);
}

static void put(uint8_t byte) {
    d.check = crc(d.check, byte);
    put_coded(byte);
}

static void put_word(uint32_t word) {
    for (int k = 0; k < 4; k++)
        put((uint8_t)(word >> 8 * k));
}

static void begin_message(uint8_t kind) {
    d.check = ~(uint32_t)d.sent;
    put(kind);
}

static void end_message(void) {
    const uint32_t check = ~d.check;
    for (int k = 0; k < CHECK; k++)
        put_coded((uint8_t)(check >> 8 * k));
    device_put(END);
    d.sent++;
}

static void answer(uint8_t kind, uint8_t status, uint32_t data) {
    begin_message(kind);
    put(status);
    put_word(data);
    end_message();
}

static void refuse(void) {
    answer(REFUSED, 0, 0);
    d.open = 0;
}

/* -- packets ---------------------------------------------------------------------------------------------------------------- */

static void forget_packet(void) {
    d.filled = d.tokens = d.excess = 0;
    d.begun = 0;
}

static void clear_state(void) {
    (void)model_init(&m);
    d.cleared = 1;
}

/* Sends the results that are there. The integers were checked by the driver; 0 where one is outside the input's format. */
static int push(void) {
    static model_output result[MODEL_OUTPUT_WIDTH];
    int code = model_push(&m, d.token, MODEL_INPUT_WIDTH);
    d.filled = 0;
    if (code < 0)
        return 0;
    d.tokens++;
    while (code == MODEL_READY) {
        code = model_read(&m, result, MODEL_OUTPUT_WIDTH);
        begin_message(RESULT);
        for (uint32_t k = 0; k < sizeof result; k++)
            put(((const uint8_t *)result)[k]);
        put(0);
        end_message();
    }
    return 1;
}

static void end_packet(void) {
    uint32_t flags = ENDED;
    if (d.tokens < MODEL_TOKENS) { /* filled up with zeros */
        d.errors |= EMAMBA_ERRORS_SHORT;
        d.shorts++;
        flags |= MARKED;
        memset((uint8_t *)d.token + d.filled, 0, TOKEN - d.filled);
        while (d.tokens < MODEL_TOKENS) {
            (void)push();
            memset(d.token, 0, TOKEN);
        }
    } else if (d.excess) {
        d.errors |= EMAMBA_ERRORS_LONG;
        d.longs++;
        flags |= MARKED;
    }
    if (flags & MARKED) {
        d.bad++;
        d.first_bad = d.first_bad ? d.first_bad : d.in;
        d.interrupt |= EMAMBA_INTERRUPT_ERROR;
    }
    d.out++;
    d.interrupt |= EMAMBA_INTERRUPT_RESULT;
    begin_message(RESULT);
    put((uint8_t)flags);
    end_message();
    forget_packet();
}

static int take_packet(const uint8_t *bytes, uint32_t size) {
    if (!d.begun) {
        d.begun = 1;
        d.in++;
        if (d.cleared || !(d.control & EMAMBA_CONTROL_KEEP))
            (void)model_init(&m);
        d.cleared = 0;
    }
    for (uint32_t k = 0; k < size; k++) {
        if (d.tokens == MODEL_TOKENS) {
            d.excess++;
            continue;
        }
        ((uint8_t *)d.token)[d.filled++] = bytes[k];
        if (d.filled == TOKEN && !push())
            return 0;
    }
    return 1;
}

/* -- registers -------------------------------------------------------------------------------------------------------------- */

static int state_is_busy(void) {
    const int busy = (d.control & EMAMBA_CONTROL_ENABLE) || d.begun;
    d.errors |= busy ? EMAMBA_ERRORS_STATE_BUSY : 0;
    return busy;
}

static uint32_t read_state(void) {
    if (state_is_busy() || d.address >= STATE_WORDS)
        return 0;
    if (d.address == 0)
        (void)model_save(&m, d.state, MODEL_STATE_BYTES);
    return d.cleared ? 0 : d.state[d.address++];
}

/* A whole state takes effect with its last word; a state of zeros is the one of the start. */
static void write_state(uint32_t word) {
    if (state_is_busy() || d.address >= STATE_WORDS)
        return;
    d.state[d.address++] = word;
    if (d.address < STATE_WORDS)
        return;
    uint32_t any = 0;
    for (uint32_t k = 0; k < STATE_WORDS; k++)
        any |= d.state[k];
    if (!any)
        (void)model_init(&m);
    if (!any || model_restore(&m, d.state, MODEL_STATE_BYTES) == MODEL_OK)
        d.cleared = 0;
    if (m.kept.position) /* of the middle of a sequence, where no packet begins */
        clear_state();
}

static int read(uint32_t address, uint32_t *value) {
    const uint32_t status = (d.begun ? EMAMBA_STATUS_IN_PACKET : EMAMBA_STATUS_IDLE) | (d.excess ? EMAMBA_STATUS_EXCESS : 0)
                            | (d.cleared ? EMAMBA_STATUS_CLEARED : 0);
    const uint32_t capabilities = (MODEL_CARRIED ? EMAMBA_CAPABILITIES_STATEFUL : 0) | 1u << 8 | sizeof(model_input) << 16
                                  | sizeof(model_output) << 24;
    const struct { uint32_t address, value; } known[] = {
        {EMAMBA_MAGIC, EMAMBA_MAGIC_VALUE}, {EMAMBA_INTERFACE, EMAMBA_INTERFACE_VALUE}, {EMAMBA_CAPABILITIES, capabilities},
        {EMAMBA_SIZES, 0}, {EMAMBA_TOKENS, MODEL_TOKENS}, {EMAMBA_INPUT_WIDTH, MODEL_INPUT_WIDTH},
        {EMAMBA_OUTPUT_WIDTH, MODEL_OUTPUT_WIDTH}, {EMAMBA_OUTPUT_TOKENS, MODEL_OUTPUT_TOKENS},
        {EMAMBA_CONTROL, d.control}, {EMAMBA_COMMAND, 0}, {EMAMBA_ERRORS, d.errors}, {EMAMBA_INTERRUPT, d.interrupt},
        {EMAMBA_STATUS, status}, {EMAMBA_INTERRUPT_ENABLE, d.interrupt_enable}, {EMAMBA_FRAMES_IN, d.in}, {EMAMBA_FRAMES_OUT, d.out},
        {EMAMBA_FRAMES_BAD, d.bad}, {EMAMBA_FIRST_BAD, d.first_bad}, {EMAMBA_SHORT_PACKETS, d.shorts},
        {EMAMBA_LONG_PACKETS, d.longs}, {EMAMBA_STATE_ADDRESS, d.address}, {EMAMBA_STATE_WORDS, MODEL_CARRIED ? STATE_WORDS : 0},
        {EMAMBA_SCRATCH, d.scratch}};
    static const uint32_t digest[] = {DIGEST};
    *value = 0;
    if (address == EMAMBA_STATE_DATA && MODEL_CARRIED) {
        *value = read_state();
        return 1;
    }
    if (address >= EMAMBA_DIGEST && address < EMAMBA_DIGEST + 4 * EMAMBA_DIGEST_COUNT && address % 4 == 0) {
        *value = digest[(address - EMAMBA_DIGEST) / 4];
        return 1;
    }
    for (uint32_t k = 0; k < sizeof known / sizeof *known; k++)
        if (known[k].address == address) {
            *value = known[k].value;
            return 1;
        }
    return 0;
}

static void command(uint32_t bits) {
    if (bits & EMAMBA_COMMAND_RESET)
        forget_packet();
    if (bits & (EMAMBA_COMMAND_RESET | EMAMBA_COMMAND_CLEAR_STATE))
        clear_state();
    if (bits & EMAMBA_COMMAND_CLEAR_COUNTERS)
        d.in = d.out = d.bad = d.first_bad = d.shorts = d.longs = 0;
}

static int write(uint32_t address, uint32_t value) {
    switch (address) {
    case EMAMBA_CONTROL: d.control = value & (EMAMBA_CONTROL_ENABLE | (MODEL_CARRIED ? EMAMBA_CONTROL_KEEP : 0)); return 1;
    case EMAMBA_COMMAND: command(value); return 1;
    case EMAMBA_ERRORS: d.errors &= ~value; return 1;
    case EMAMBA_INTERRUPT: d.interrupt &= ~value; return 1;
    case EMAMBA_INTERRUPT_ENABLE: d.interrupt_enable = value; return 1;
    case EMAMBA_STATE_ADDRESS: d.address = value; return 1;
    case EMAMBA_STATE_DATA: write_state(value); return 1;
    case EMAMBA_SCRATCH: d.scratch = value; return 1;
    default: return 0;
    }
}

/* -- messages from the driver ------------------------------------------------------------------------------------------------ */

static uint32_t little(const uint8_t *bytes, int size) {
    uint32_t value = 0;
    for (int k = 0; k < size; k++)
        value |= (uint32_t)bytes[k] << 8 * k;
    return value;
}

static void message(uint8_t kind, const uint8_t *body, uint32_t size) {
    uint32_t value = 0;
    if (kind == READ && size == 2) {
        const int known = read(little(body, 2), &value);
        d.errors |= known ? 0 : EMAMBA_ERRORS_ADDRESS;
        answer(READ, known ? 0 : WRONG_ADDRESS, value);
    } else if (kind == WRITE && size == 6) {
        const int known = write(little(body, 2), little(body + 2, 4));
        d.errors |= known ? 0 : EMAMBA_ERRORS_ADDRESS;
        answer(WRITE, known ? 0 : WRONG_ADDRESS, 0);
    } else if ((kind == DATA || kind == LAST) && size && take_packet(body, size)) {
        if (kind == LAST)
            end_packet();
        answer(kind, 0, 0);
    } else
        refuse();
}

static void end_of_message(void) {
    const uint32_t size = d.size;
    const int damaged = d.damaged || d.escaped;
    d.size = 0;
    d.escaped = d.damaged = 0;
    if (!size && !damaged)
        return;
    uint32_t check = ~(uint32_t)(d.open ? d.received : 0);
    for (uint32_t k = 0; size > CHECK && k < size - CHECK; k++)
        check = crc(check, d.message[k]);
    const int right = !damaged && size > CHECK && ~check == little(d.message + size - CHECK, CHECK);
    if (!d.open) {
        if (right && d.message[0] == HELLO && size == 5 + CHECK) {
            d.open = 1;
            d.received = 1;
            d.sent = 0;
            answer(HELLO, VERSION, little(d.message + 1, 4));
        }
    } else if (right) {
        d.received++;
        message(d.message[0], d.message + 1, size - CHECK - 1);
    } else
        refuse();
}

void device_begin(void) {
    memset(&d, 0, sizeof d);
    clear_state();
}

void device_take(uint8_t byte) {
    d.ends = byte == END ? d.ends + 1 : 0;
    if (byte == END)
        end_of_message();
    if (d.ends == ENDS)
        d.open = 0;
    if (byte == END || byte == ESC) {
        d.escaped = byte == ESC;
        return;
    }
    if (d.escaped)
        byte = byte == ESCAPED_END ? END : ESC;
    d.escaped = 0;
    if (d.size < sizeof d.message)
        d.message[d.size++] = byte;
    else
        d.damaged = 1;
}
