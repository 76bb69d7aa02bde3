/* A QEMU plugin that counts the guest's instructions: one inline addition a translated block, so it costs little and needs no
 * locks as long as the guest has one thread. The total goes to the file named by the argument output=PATH.
 *
 * QEMU's plugin interface is declared here because distributions do not ship its header. Version 1 (QEMU 4.2 to 8.2) adds to
 * a plain integer; since version 2 (QEMU 9.0) counters live in "scoreboards". QEMU_PLUGIN_VERSION says which to build. */

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_info;
struct qemu_plugin_tb;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                                  void (*translated)(qemu_plugin_id_t id, struct qemu_plugin_tb *block));
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*ended)(qemu_plugin_id_t id, void *data), void *data);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

#if QEMU_PLUGIN_VERSION == 1
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, enum qemu_plugin_op operation,
                                                     void *counter, uint64_t amount);
static uint64_t instructions;

static void open_counter(void) {}
static uint64_t total(void) { return instructions; }
static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &instructions,
                                             qemu_plugin_tb_n_insns(block));
}
#else
struct qemu_plugin_scoreboard;
typedef struct {
    struct qemu_plugin_scoreboard *score;
    size_t offset;
} qemu_plugin_u64;
extern struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t bytes);
extern void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(struct qemu_plugin_tb *block, enum qemu_plugin_op operation,
                                                              qemu_plugin_u64 counter, uint64_t amount);
extern uint64_t qemu_plugin_u64_sum(qemu_plugin_u64 counter);
static qemu_plugin_u64 instructions;

static void open_counter(void) { instructions.score = qemu_plugin_scoreboard_new(sizeof(uint64_t)); }
static uint64_t total(void) { return qemu_plugin_u64_sum(instructions); }
static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(block, QEMU_PLUGIN_INLINE_ADD_U64, instructions,
                                                      qemu_plugin_tb_n_insns(block));
}
#endif

static char output[4096];

static void ended(qemu_plugin_id_t id, void *data) {
    (void)id;
    (void)data;
    FILE *file = fopen(output, "w");
    if (!file) return;
    fprintf(file, "%" PRIu64 "\n", total());
    fclose(file);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int count, char **arguments) {
    (void)info;
    for (int i = 0; i < count; ++i)
        if (strncmp(arguments[i], "output=", 7) == 0) snprintf(output, sizeof output, "%s", arguments[i] + 7);
    if (!output[0]) return -1;
    open_counter();
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
