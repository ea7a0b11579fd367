package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// ticksPerSecond is USER_HZ, which is 100 on every Linux machine we know.
const ticksPerSecond = 100

// cpu is a moment of the machine's and of our own CPU time.
type cpu struct {
	machineMs, ownMs float64
}

func cpuNow() cpu {
	var c cpu
	data, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(data), "\n")
	for i, field := range strings.Fields(line)[1:] {
		// user nice system idle iowait irq softirq steal: all but idle and iowait is work.
		if n, err := strconv.ParseFloat(field, 64); err == nil && i != 3 && i != 4 && i < 7 {
			c.machineMs += n * 1000 / ticksPerSecond
		}
	}
	var own syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &own)
	c.ownMs = float64(own.Utime.Nano()+own.Stime.Nano()) / 1e6
	return c
}

func startCPU() cpu { return cpuNow() }

// msPer is the CPU time since then for each of n pods: the whole machine's less our own, and our own. The
// machine's is taken because runtimes spread their work over daemons, helpers and plugins: it should be idle.
func (c cpu) msPer(n int) (others, own float64) {
	now := cpuNow()
	own = now.ownMs - c.ownMs
	others = max(now.machineMs-c.machineMs-own, 0)
	return round(others / float64(n)), round(own / float64(n))
}

// pssKB is a process's proportional set size; 0 if it is gone.
func pssKB(pid int) int64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Pss:" {
			n, _ := strconv.ParseInt(fields[1], 10, 64)
			return n
		}
	}
	return 0
}

// listenerOf tells which process serves a Unix socket.
func listenerOf(endpoint string) (int, error) {
	conn, err := net.Dial("unix", strings.TrimPrefix(endpoint, "unix://"))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	if e := raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); e != nil {
		return 0, e
	}
	if err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}

// hostProcesses are those in our own pid namespace, and pause processes, which are a runtime's helpers too.
func hostProcesses() map[int]bool {
	own, _ := os.Readlink("/proc/self/ns/pid")
	found := map[int]bool{}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		ns, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if ns == own || strings.TrimSpace(string(comm)) == "pause" {
			found[pid] = true
		}
	}
	return found
}

// related tells whether a process was started by the runtime: it isn't kernel work, ours or somebody else's. A
// helper is in the pods' session or cgroup, so it is enough that its command line names neither a shell nor us.
func (c *client) related(pid int, daemon int) bool {
	if pid == os.Getpid() || pid == daemon {
		return false
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && exe != ""
}

// helperPss is what runs beside the containers for each of o.pods pods: KiB and processes per pod.
func (c *client) helperPss(o options) (kb, count float64, err error) {
	before := hostProcesses()
	defer c.removeEverything()
	for range o.pods {
		if _, _, err := c.startPod(); err != nil {
			return 0, 0, err
		}
	}
	var total int64
	helpers := 0
	for pid := range hostProcesses() {
		if !before[pid] && c.related(pid, o.pid) {
			total += pssKB(pid)
			helpers++
		}
	}
	return round(float64(total) / float64(o.pods)), round(float64(helpers) / float64(o.pods)), nil
}
