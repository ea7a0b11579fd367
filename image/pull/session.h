// One pull from the first byte to the last: what crisp-pull does between its start and its exit.
#ifndef IMAGE_PULL_SESSION_H
#define IMAGE_PULL_SESSION_H

// Speaks api/pull/pull.proto on sock, for one pull, and for as many more of the same as find nothing to do;
// returns the exit status.
int session_run(int sock, int forker);

#endif
