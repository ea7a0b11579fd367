// systemd's readiness protocol (sd_notify(3)), which is one datagram: no library needed.
#ifndef CRI_NOTIFY_H
#define CRI_NOTIFY_H

// Sends e.g. "READY=1" to $NOTIFY_SOCKET. Without one, or if nobody listens, nothing happens.
void notify_systemd(const char *state);

#endif
