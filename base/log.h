// The daemons' log: one line an event, key=value or JSON, to stderr. Library code doesn't log: boundaries do.
// Secrets never reach it.
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

void log_setup(enum log_level level, enum log_format format);
int log_level_parse(const char *name, enum log_level *out);   // debug, info, warn, error: 0 or -EINVAL
int log_format_parse(const char *name, enum log_format *out); // text, json: 0 or -EINVAL
int log_enabled(enum log_level level);

// log_event(LOG_LEVEL_INFO, "pod sandbox ready", "pod", id, "ip", ip, NULL): a message, then key/value pairs
// of const char * ended by NULL (a NULL value is printed as ""). Text form:
//   time=2026-11-22T03:04:05.123456789Z level=info msg="pod sandbox ready" pod=… ip=…
// Values are quoted and escaped as needed, never cut in the middle of a UTF-8 sequence; a line is written by
// one write(2) of at most 8 KiB.
void log_event(enum log_level level, const char *message, ...) __attribute__((sentinel));

#define log_debug(...) log_event(LOG_LEVEL_DEBUG, __VA_ARGS__, NULL)
#define log_info(...)  log_event(LOG_LEVEL_INFO, __VA_ARGS__, NULL)
#define log_warn(...)  log_event(LOG_LEVEL_WARN, __VA_ARGS__, NULL)
#define log_error(...) log_event(LOG_LEVEL_ERROR, __VA_ARGS__, NULL)

#endif
