// crisp-load measures a CRI runtime: latencies of calls back to back and at rest, throughput, CPU and memory.
// Its own CPU time is told apart. Any endpoint will do; tests/bench/run starts a crispd if none is given.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// report is the JSON that is written; units are in the names.
type report struct {
	Endpoint           string             `json:"endpoint"`
	Runtime            string             `json:"runtime"`
	Cycles             int                `json:"cycles"`
	Latency            latencies          `json:"latency"`
	LatencyAtRest      latencies          `json:"latency_at_rest"`
	LatencyHostNetwork latencies          `json:"latency_host_network"`
	PodsPerSecond      map[string]float64 `json:"pods_per_s"`
	ExecsPerSecond     map[string]float64 `json:"execs_per_s"`
	CPUMsPerPod        float64            `json:"cpu_ms_per_pod"`
	GeneratorCPUMs     float64            `json:"generator_cpu_ms_per_pod"`
	DaemonPssKB        int64              `json:"daemon_pss_kb"`
	HelperPssKBPerPod  float64            `json:"helper_pss_kb_per_pod"`
	HelpersPerPod      float64            `json:"helpers_per_pod"`
	Statistics         *statistics        `json:"statistics,omitempty"`
}

type options struct {
	endpoint, image, json, cgroupParent string
	pid, cycles, restCycles, pods       int
	restInterval                        time.Duration
	onlyLatency                         bool
	mounts                              int
	seccomp, userns                     bool
	statsContainers, statsSeconds       int
	onlyStats                           bool
}

func parse() options {
	var o options
	flag.StringVar(&o.endpoint, "endpoint", "", "CRI endpoint, unix:///path")
	flag.StringVar(&o.image, "image", "registry.k8s.io/e2e-test-images/busybox:1.29-2", "an image with sleep and true")
	flag.StringVar(&o.json, "json", "", "file for the figures (default: standard output only)")
	flag.StringVar(&o.cgroupParent, "cgroup-parent", "", "cgroup parent of the pods")
	flag.IntVar(&o.pid, "pid", 0, "the daemon's process (default: who listens on the endpoint)")
	flag.IntVar(&o.cycles, "cycles", 50, "pod cycles back to back")
	flag.IntVar(&o.restCycles, "rest-cycles", 5, "pod cycles at rest")
	flag.DurationVar(&o.restInterval, "rest-interval", time.Second, "between two calls at rest")
	flag.IntVar(&o.pods, "pods", 20, "pods for the memory figures")
	flag.BoolVar(&o.onlyLatency, "only-latency", false, "nothing but latencies back to back")
	flag.IntVar(&o.mounts, "mounts", 0, "bind mounts in each container")
	flag.BoolVar(&o.seccomp, "seccomp", false, "containers under the default seccomp profile")
	flag.BoolVar(&o.userns, "userns", false, "pods with a user namespace")
	flag.IntVar(&o.statsContainers, "stats-containers", 100, "containers, each in a pod, for the statistics; 0: none")
	flag.IntVar(&o.statsSeconds, "stats-seconds", 60, "how long statistics are asked for every second")
	flag.BoolVar(&o.onlyStats, "only-stats", false, "nothing but statistics")
	flag.Parse()
	return o
}

func main() {
	if err := run(parse()); err != nil {
		fmt.Fprintln(os.Stderr, "crisp-load:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	logs, err := os.MkdirTemp("", "crisp-load-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(logs)
	c, err := dial(o, logs)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	defer c.removeEverything()
	if o.pid == 0 {
		if o.pid, err = listenerOf(o.endpoint); err != nil {
			return err
		}
	}
	r := report{Endpoint: o.endpoint, Runtime: c.runtime, Cycles: o.cycles}
	if err := c.measure(&r, o); err != nil {
		return err
	}
	return write(r, o.json)
}

func (c *client) measure(r *report, o options) error {
	var err error
	if err = c.repeat(3, newRecorder(), 0, false); err != nil { // warm up
		return err
	}
	if o.onlyStats {
		r.Statistics, err = c.statistics(o)
		return err
	}
	r.DaemonPssKB = pssKB(o.pid)
	busy := startCPU()
	recorder := newRecorder()
	if err = c.repeat(o.cycles, recorder, 0, false); err != nil {
		return err
	}
	r.CPUMsPerPod, r.GeneratorCPUMs = busy.msPer(o.cycles)
	r.Latency = recorder.summary()
	if o.onlyLatency {
		return nil
	}
	recorder = newRecorder()
	if err = c.repeat(max(o.cycles/2, 1), recorder, 0, true); err != nil {
		return err
	}
	r.LatencyHostNetwork = recorder.summary()
	recorder = newRecorder()
	if err = c.repeat(o.restCycles, recorder, o.restInterval, false); err != nil {
		return err
	}
	r.LatencyAtRest = recorder.summary()
	if r.PodsPerSecond, err = c.podsPerSecond(o.cycles); err != nil {
		return err
	}
	if r.ExecsPerSecond, err = c.execsPerSecond(o.cycles * 4); err != nil {
		return err
	}
	if r.HelperPssKBPerPod, r.HelpersPerPod, err = c.helperPss(o); err != nil {
		return err
	}
	if o.statsContainers > 0 {
		r.Statistics, err = c.statistics(o)
	}
	return err
}

func write(r report, path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if path == "" {
		_, err = os.Stdout.Write(data)
		return err
	}
	r.print(os.Stdout)
	return os.WriteFile(filepath.Clean(path), data, 0o644)
}
